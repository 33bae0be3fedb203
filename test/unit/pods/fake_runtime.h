// SPDX-License-Identifier: Apache-2.0
// FakeRuntime: a small CRI runtime in memory, for tests of what stands on top of cri::Runtime.
#pragma once

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "agent/cri/runtime.h"

namespace fairlead::pods {

namespace api = ::runtime::v1;

// Sandboxes and containers are what the calls made of them; tests look at them and change them at will. Owner and
// thread: the test's. Times are the clock's.
class FakeRuntime final : public cri::Runtime {
 public:
  struct FakeContainer {
    std::string sandbox_id;
    api::ContainerConfig config;
    api::ContainerStatus status;
  };

  explicit FakeRuntime(const Clock& clock) : clock_(clock) {}

  std::map<std::string, api::PodSandboxStatus> sandboxes;  // by id, as the containers
  std::map<std::string, FakeContainer> containers;
  std::vector<std::string> calls;                           // names, in order
  std::vector<std::pair<std::string, std::int64_t>> stops;  // what StopContainer was asked: id and timeout
  std::map<std::string, Error> errors;                      // by call: it fails so, and does nothing
  std::set<std::string> held;                               // calls whose answers wait for release()
  bool away = false;                                        // every call fails
  bool tells_events = false;
  bool has_image = true;
  api::Image image = {};  // what is told of any image, but for its id
  std::string password;   // that a pull needs; empty: none
  std::vector<api::PullImageRequest> pulls;
  int exec_code = 0;

  std::size_t count(const std::string& name) const { return static_cast<std::size_t>(std::ranges::count(calls, name)); }
  // The newest container of that name, or nullptr.
  FakeContainer* find(const std::string& name) {
    FakeContainer* found = nullptr;
    for (auto& [id, container] : containers) {
      if (container.config.metadata().name() != name) continue;
      if (found == nullptr || container.config.metadata().attempt() >= found->config.metadata().attempt()) {
        found = &container;
      }
    }
    return found;
  }
  bool runs(const std::string& name) {
    const FakeContainer* container = find(name);
    return container != nullptr && container->status.state() == api::CONTAINER_RUNNING;
  }
  // The newest container of that name ends by itself.
  void exit(const std::string& name, int code = 0) { end(*find(name), code); }
  void release() {
    held.clear();
    for (auto& answer : std::exchange(waiting_, {})) answer();
  }

#define FL_FAKE(Name)                                                                                         \
  void call(Loop& loop, api::Name##Request request, Duration, cri::Done<api::Name##Response> done) override { \
    calls.push_back(#Name);                                                                                   \
    Result<api::Name##Response> result;                                                                       \
    if (away) {                                                                                               \
      result = fail(Code::kUnavailable, #Name ": the runtime is away");                                       \
    } else if (const auto at = errors.find(#Name); at != errors.end()) {                                      \
      result = std::unexpected(at->second);                                                                   \
    } else if (const auto answered = answer(request, *result); !answered) {                                   \
      result = std::unexpected(answered.error());                                                             \
    }                                                                                                         \
    std::function<void()> tell = [&loop, done, result] { loop.post([done, result] { done(result); }); };      \
    if (held.contains(#Name)) return waiting_.push_back(std::move(tell));                                     \
    tell();                                                                                                   \
  }
  FL_CRI_CALLS(FL_FAKE)
#undef FL_FAKE

  void follow_events(Loop& loop, std::function<void(api::ContainerEventResponse)> event,
                     std::function<void(StreamEnd, Error)> ended) override {
    if (!tells_events) {
      loop.post([ended] { ended(StreamEnd::kUnsupported, Error{Code::kNotFound, "no events here"}); });
      return;
    }
    event_ = [&loop, event](const api::ContainerEventResponse& response) {
      loop.post([event, response] { event(response); });
    };
  }

 private:
  std::int64_t now() const {
    return std::chrono::duration_cast<std::chrono::nanoseconds>(clock_.wall().time_since_epoch()).count();
  }
  static bool selected(const auto& labels, const auto& selector) {
    return std::ranges::all_of(selector, [&](const auto& wanted) {
      const auto at = labels.find(wanted.first);
      return at != labels.end() && at->second == wanted.second;
    });
  }
  void tell(const api::PodSandboxStatus& sandbox) {
    if (!event_) return;
    api::ContainerEventResponse event;
    *event.mutable_pod_sandbox_status() = sandbox;
    for (const auto& [id, container] : containers) {
      if (container.sandbox_id == sandbox.id()) *event.add_containers_statuses() = container.status;
    }
    event_(event);
  }
  void end(FakeContainer& container, int code) {
    if (container.status.state() != api::CONTAINER_RUNNING) return;
    container.status.set_state(api::CONTAINER_EXITED);
    container.status.set_finished_at(now());
    container.status.set_exit_code(code);
    tell(sandboxes[container.sandbox_id]);
  }

  template <class Request, class Response>
  Result<> answer(const Request&, Response&) {
    return {};
  }

  Result<> answer(const api::VersionRequest&, api::VersionResponse& response) {
    response.set_runtime_name("fake");
    return {};
  }
  Result<> answer(const api::RunPodSandboxRequest& request, api::RunPodSandboxResponse& response) {
    const std::string id = "s" + std::to_string(++made_);
    auto& status = sandboxes[id];
    status.set_id(id);
    *status.mutable_metadata() = request.config().metadata();
    *status.mutable_labels() = request.config().labels();
    status.set_state(api::SANDBOX_READY);
    status.set_created_at(now());
    status.mutable_network()->set_ip("10.0.0." + std::to_string(made_));
    response.set_pod_sandbox_id(id);
    tell(status);
    return {};
  }
  Result<> answer(const api::StopPodSandboxRequest& request, api::StopPodSandboxResponse&) {
    const auto at = sandboxes.find(request.pod_sandbox_id());
    if (at == sandboxes.end()) return {};
    at->second.set_state(api::SANDBOX_NOTREADY);
    for (auto& [id, container] : containers) {
      if (container.sandbox_id == at->first) end(container, 137);
    }
    tell(at->second);
    return {};
  }
  Result<> answer(const api::RemovePodSandboxRequest& request, api::RemovePodSandboxResponse&) {
    std::erase_if(containers, [&](const auto& one) { return one.second.sandbox_id == request.pod_sandbox_id(); });
    if (const auto gone = sandboxes.extract(request.pod_sandbox_id())) tell(gone.mapped());
    return {};
  }
  Result<> answer(const api::PodSandboxStatusRequest& request, api::PodSandboxStatusResponse& response) {
    const auto at = sandboxes.find(request.pod_sandbox_id());
    if (at == sandboxes.end()) return fail(Code::kNotFound, "no sandbox {}", request.pod_sandbox_id());
    *response.mutable_status() = at->second;
    return {};
  }
  Result<> answer(const api::ListPodSandboxRequest& request, api::ListPodSandboxResponse& response) {
    for (const auto& [id, status] : sandboxes) {
      if (!selected(status.labels(), request.filter().label_selector())) continue;
      auto& item = *response.add_items();
      item.set_id(id);
      *item.mutable_metadata() = status.metadata();
      *item.mutable_labels() = status.labels();
      item.set_state(status.state());
      item.set_created_at(status.created_at());
    }
    return {};
  }

  Result<> answer(const api::CreateContainerRequest& request, api::CreateContainerResponse& response) {
    const auto sandbox = sandboxes.find(request.pod_sandbox_id());
    if (sandbox == sandboxes.end() || sandbox->second.state() != api::SANDBOX_READY) {
      return fail(Code::kNotFound, "sandbox {} does not run", request.pod_sandbox_id());
    }
    const std::string id = "c" + std::to_string(++made_);
    auto& container = containers[id];
    container.sandbox_id = request.pod_sandbox_id();
    container.config = request.config();
    container.status.set_id(id);
    *container.status.mutable_metadata() = request.config().metadata();
    *container.status.mutable_labels() = request.config().labels();
    *container.status.mutable_annotations() = request.config().annotations();
    container.status.set_state(api::CONTAINER_CREATED);
    container.status.set_created_at(now());
    container.status.set_image_ref(request.config().image().image());
    response.set_container_id(id);
    tell(sandbox->second);
    return {};
  }
  Result<> answer(const api::StartContainerRequest& request, api::StartContainerResponse&) {
    const auto at = containers.find(request.container_id());
    if (at == containers.end()) return fail(Code::kNotFound, "no container {}", request.container_id());
    at->second.status.set_state(api::CONTAINER_RUNNING);
    at->second.status.set_started_at(now());
    tell(sandboxes[at->second.sandbox_id]);
    return {};
  }
  Result<> answer(const api::StopContainerRequest& request, api::StopContainerResponse&) {
    stops.emplace_back(request.container_id(), request.timeout());
    if (const auto at = containers.find(request.container_id()); at != containers.end()) end(at->second, 143);
    return {};
  }
  Result<> answer(const api::RemoveContainerRequest& request, api::RemoveContainerResponse&) {
    containers.erase(request.container_id());
    return {};
  }
  Result<> answer(const api::ContainerStatusRequest& request, api::ContainerStatusResponse& response) {
    const auto at = containers.find(request.container_id());
    if (at == containers.end()) return fail(Code::kNotFound, "no container {}", request.container_id());
    *response.mutable_status() = at->second.status;
    return {};
  }
  Result<> answer(const api::ListContainersRequest& request, api::ListContainersResponse& response) {
    for (const auto& [id, container] : containers) {
      if (!selected(container.config.labels(), request.filter().label_selector())) continue;
      auto& item = *response.add_containers();
      item.set_id(id);
      item.set_pod_sandbox_id(container.sandbox_id);
      *item.mutable_metadata() = container.config.metadata();
      *item.mutable_labels() = container.config.labels();
      *item.mutable_annotations() = container.config.annotations();
      item.set_state(container.status.state());
      item.set_created_at(container.status.created_at());
      item.set_image_ref(container.status.image_ref());
    }
    return {};
  }

  Result<> answer(const api::ListImagesRequest&, api::ListImagesResponse&) { return {}; }
  Result<> answer(const api::ImageStatusRequest&, api::ImageStatusResponse& response) {
    if (!has_image) return {};
    *response.mutable_image() = image;
    response.mutable_image()->set_id("sha256:1");
    return {};
  }
  Result<> answer(const api::PullImageRequest& request, api::PullImageResponse& response) {
    pulls.push_back(request);
    if (!password.empty() && request.auth().password() != password) return fail(Code::kDenied, "401 Unauthorized");
    response.set_image_ref("sha256:2");
    return {};
  }
  Result<> answer(const api::ExecSyncRequest&, api::ExecSyncResponse& response) {
    response.set_exit_code(exec_code);
    return {};
  }

  const Clock& clock_;
  std::function<void(const api::ContainerEventResponse&)> event_;
  std::vector<std::function<void()>> waiting_;
  int made_ = 0;
};

}  // namespace fairlead::pods
