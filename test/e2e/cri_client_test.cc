// SPDX-License-Identifier: Apache-2.0
// Client against a real containerd: a sandbox in the node's network, a container, an exec, and the errors of both.
#include "agent/cri/client.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <optional>

#include "agent/cri/ready.h"
#include "test/kit/cgroup.h"
#include "test/kit/containerd.h"

namespace fairlead::cri {
namespace {

using namespace std::chrono_literals;

constexpr auto kCgroup = "fl-cri-client-test";

class CriClientTest : public testing::Test {
 protected:
  void SetUp() override {
    auto started = testkit::Containerd::start({.folder = folder_, .netns = {}, .bin_folder = {}});
    ASSERT_TRUE(started) << started.error().message();
    containerd_.emplace(std::move(*started));
    client_ = std::move(Client::create(containerd_->endpoint())).value();
  }
  void TearDown() override {
    client_.reset();
    containerd_.reset();
    std::filesystem::remove_all(folder_);
    testkit::remove_cgroups_named(kCgroup);
  }

  template <class Response, class Request>
  Result<Response> ask(Runtime& runtime, Request request, Duration deadline = 30s) {
    std::optional<Result<Response>> answer;
    Loop loop;
    runtime.call(loop, std::move(request), deadline, [&](Result<Response> result) {
      answer = std::move(result);
      loop.stop();
    });
    loop.run();
    return std::move(*answer);
  }

  static api::PodSandboxConfig sandbox_config() {
    api::PodSandboxConfig config;
    config.mutable_metadata()->set_name("web");
    config.mutable_metadata()->set_uid("uid-1");
    config.mutable_metadata()->set_namespace_("default");
    config.set_log_directory("/tmp");
    auto* options = config.mutable_linux()->mutable_security_context()->mutable_namespace_options();
    options->set_network(api::NODE);
    config.mutable_linux()->set_cgroup_parent(std::string("/") + kCgroup);
    return config;
  }

  static std::filesystem::path make_folder() {
    std::string name = "/tmp/fl-cri-XXXXXX";
    return mkdtemp(name.data());
  }

  const std::filesystem::path folder_ = make_folder();
  std::optional<testkit::Containerd> containerd_;
  std::unique_ptr<Client> client_;
};

TEST_F(CriClientTest, ASandboxAndItsContainerFromRunToRemove) {
  api::RunPodSandboxRequest run;
  *run.mutable_config() = sandbox_config();
  const auto sandbox = ask<api::RunPodSandboxResponse>(*client_, run);
  ASSERT_TRUE(sandbox) << sandbox.error().message();

  const auto list = ask<api::ListPodSandboxResponse>(*client_, api::ListPodSandboxRequest());
  ASSERT_TRUE(list) << list.error().message();
  ASSERT_EQ(list->items_size(), 1);
  EXPECT_EQ(list->items(0).metadata().uid(), "uid-1");
  EXPECT_EQ(list->items(0).state(), api::SANDBOX_READY);

  api::CreateContainerRequest create;
  create.set_pod_sandbox_id(sandbox->pod_sandbox_id());
  create.mutable_config()->mutable_metadata()->set_name("main");
  create.mutable_config()->mutable_image()->set_image("localhost/fairlead/busybox:demo");
  create.mutable_config()->add_command("/bin/sleep");
  create.mutable_config()->add_args("600");
  *create.mutable_sandbox_config() = sandbox_config();
  const auto container = ask<api::CreateContainerResponse>(*client_, create);
  ASSERT_TRUE(container) << container.error().message();
  api::StartContainerRequest start;
  start.set_container_id(container->container_id());
  const auto started = ask<api::StartContainerResponse>(*client_, start);
  ASSERT_TRUE(started) << started.error().message();

  api::ExecSyncRequest exec;
  exec.set_container_id(container->container_id());
  for (const char* word : {"/bin/sh", "-c", "echo seen; exit 3"}) exec.add_cmd(word);
  exec.set_timeout(10);
  const auto ran = ask<api::ExecSyncResponse>(*client_, exec);
  ASSERT_TRUE(ran) << ran.error().message();
  EXPECT_EQ(ran->exit_code(), 3);
  EXPECT_EQ(ran->stdout(), "seen\n");

  // A deadline shorter than the command.
  exec.set_cmd(2, "sleep 5");
  const auto late = ask<api::ExecSyncResponse>(*client_, exec, 200ms);
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, Code::kTimeout) << late.error().message();

  api::StopPodSandboxRequest stop;
  stop.set_pod_sandbox_id(sandbox->pod_sandbox_id());
  const auto stopped = ask<api::StopPodSandboxResponse>(*client_, stop);
  EXPECT_TRUE(stopped) << stopped.error().message();
  api::RemovePodSandboxRequest remove;
  remove.set_pod_sandbox_id(sandbox->pod_sandbox_id());
  const auto removed = ask<api::RemovePodSandboxResponse>(*client_, remove);
  EXPECT_TRUE(removed) << removed.error().message();
  EXPECT_EQ(ask<api::ListPodSandboxResponse>(*client_, api::ListPodSandboxRequest())->items_size(), 0);
}

TEST_F(CriClientTest, AnUnknownContainerIsNotFound) {
  api::ContainerStatusRequest request;
  request.set_container_id("0123456789");
  const auto status = ask<api::ContainerStatusResponse>(*client_, request);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Code::kNotFound);
  EXPECT_NE(status.error().message().find("CRI ContainerStatus: "), std::string::npos) << status.error().message();
  EXPECT_NE(status.error().message().find("0123456789"), std::string::npos) << status.error().message();
}

TEST_F(CriClientTest, ImageCallsReachTheImageService) {
  api::ImageStatusRequest request;
  request.mutable_image()->set_image("localhost/fairlead/busybox:demo");
  const auto image = ask<api::ImageStatusResponse>(*client_, request);
  ASSERT_TRUE(image) << image.error().message();
  EXPECT_FALSE(image->image().id().empty());
}

TEST_F(CriClientTest, ReadyCheckTellsWhatRuns) {
  SystemClock clock;
  Loop loop;
  std::optional<Result<RuntimeInfo>> info;
  const ReadyCheck check(*client_, loop, clock, 30s, [&](Result<RuntimeInfo> result) {
    info = std::move(result);
    loop.stop();
  });
  loop.run();
  ASSERT_TRUE(*info) << info->error().message();
  EXPECT_EQ((*info)->name, "containerd");
  EXPECT_FALSE((*info)->network_ready);  // no CNI configuration in the test's folder
  EXPECT_NE((*info)->network_message, "");
}

// A runtime that dies: calls say so at once, and the same client finds the one that comes back.
TEST_F(CriClientTest, ADeadSocketIsUnavailableAndComesBack) {
  ASSERT_TRUE(ask<api::VersionResponse>(*client_, api::VersionRequest()));
  containerd_->kill_daemon();
  const auto dead = ask<api::VersionResponse>(*client_, api::VersionRequest());
  ASSERT_FALSE(dead);
  EXPECT_EQ(dead.error().code, Code::kUnavailable) << dead.error().message();
  auto again = testkit::Containerd::start({.folder = folder_, .netns = {}, .bin_folder = {}});
  ASSERT_TRUE(again) << again.error().message();
  EXPECT_TRUE(
      testkit::eventually([&] { return ask<api::VersionResponse>(*client_, api::VersionRequest()).has_value(); }));
}

}  // namespace
}  // namespace fairlead::cri
