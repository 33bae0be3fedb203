// SPDX-License-Identifier: Apache-2.0
#include "bench/pods/direct.h"

#include <chrono>
#include <future>
#include <optional>
#include <utility>

namespace fairlead::bench {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr auto kDeadline = 120s;

cri::api::PodSandboxConfig sandbox(const DirectRuntime::Pod& pod, const std::string& cgroup) {
  cri::api::PodSandboxConfig config;
  auto& metadata = *config.mutable_metadata();
  metadata.set_name(pod.name);
  metadata.set_uid(pod.uid);
  metadata.set_namespace_("default");
  config.set_hostname(pod.name);
  config.set_log_directory("/tmp");
  auto& linux = *config.mutable_linux();
  linux.set_cgroup_parent(cgroup + "/direct/" + pod.name);
  linux.mutable_security_context()->mutable_namespace_options()->set_pid(cri::api::CONTAINER);
  linux.mutable_security_context()->mutable_seccomp()->set_profile_type(cri::api::SecurityProfile::RuntimeDefault);
  return config;
}

}  // namespace

Result<std::unique_ptr<DirectRuntime>> DirectRuntime::open(const std::string& endpoint, const std::string& cgroup,
                                                           const std::string& image,
                                                           const std::vector<std::string>& args) {
  std::unique_ptr<DirectRuntime> runtime(new DirectRuntime);
  FL_LET(runtime->client_, cri::Client::create(endpoint));
  runtime->cgroup_ = cgroup;
  runtime->image_ = image;
  runtime->args_ = args;
  runtime->thread_.start();
  return runtime;
}

DirectRuntime::~DirectRuntime() {
  thread_.join();
}

void DirectRuntime::start(const Pod& pod, std::function<void(Result<std::string>)> done) {
  cri::api::RunPodSandboxRequest run;
  *run.mutable_config() = sandbox(pod, cgroup_);
  client_->call(thread_.loop(), run, kDeadline, [=, this](Result<cri::api::RunPodSandboxResponse> made) {
    if (!made) return done(std::unexpected(made.error()));
    const std::string id = made->pod_sandbox_id();
    cri::api::CreateContainerRequest create;
    create.set_pod_sandbox_id(id);
    *create.mutable_sandbox_config() = run.config();
    auto& config = *create.mutable_config();
    config.mutable_metadata()->set_name("main");
    config.mutable_image()->set_image(image_);
    for (const std::string& arg : args_) config.add_args(arg);
    config.mutable_linux()->mutable_security_context()->mutable_namespace_options()->set_pid(cri::api::CONTAINER);
    client_->call(thread_.loop(), create, kDeadline, [=, this](Result<cri::api::CreateContainerResponse> created) {
      if (!created) return done(std::unexpected(created.error()));
      cri::api::StartContainerRequest start;
      start.set_container_id(created->container_id());
      client_->call(thread_.loop(), start, kDeadline, [=](Result<cri::api::StartContainerResponse> started) {
        done(started ? Result<std::string>(id) : std::unexpected(started.error()));
      });
    });
  });
}

Result<std::vector<std::string>> DirectRuntime::all(std::size_t count, const Each& each) {
  std::promise<void> promise;
  std::vector<std::string> results;
  std::optional<Error> error;
  std::size_t left = count;
  thread_.loop().post([&] {
    for (std::size_t i = 0; i < count; ++i) {
      each(i, [&](Result<std::string> result) {
        if (result) {
          results.push_back(*result);
        } else {
          error = result.error();
        }
        if (--left == 0) promise.set_value();
      });
    }
  });
  promise.get_future().wait();
  if (error) return std::unexpected(*error);
  return results;
}

Result<double> DirectRuntime::run(const std::vector<Pod>& pods) {
  const auto begin = Clock::now();
  FL_LET(const auto sandboxes, all(pods.size(), [&](std::size_t i, auto done) { start(pods[i], done); }));
  const double took = std::chrono::duration<double, std::milli>(Clock::now() - begin).count();
  FL_TRY(all(pods.size(), [&](std::size_t i, auto done) {
    cri::api::StopPodSandboxRequest stop;
    stop.set_pod_sandbox_id(sandboxes[i]);
    client_->call(thread_.loop(), stop, kDeadline, [=, this](Result<cri::api::StopPodSandboxResponse> stopped) {
      if (!stopped) return done(std::unexpected(stopped.error()));
      cri::api::RemovePodSandboxRequest remove;
      remove.set_pod_sandbox_id(stop.pod_sandbox_id());
      client_->call(thread_.loop(), remove, kDeadline, [=](Result<cri::api::RemovePodSandboxResponse> removed) {
        done(removed ? Result<std::string>("") : std::unexpected(removed.error()));
      });
    });
  }));
  return took;
}

}  // namespace fairlead::bench
