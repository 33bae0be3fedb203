// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/worker.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "test/unit/pods/fake_runtime.h"
#include "test/unit/pods/pod.h"

namespace fairlead::pods {
namespace {

class FakeVolumes final : public VolumeSetup {
 public:
  Result<> outcome;
  void set_up(const k8s::Pod&, std::function<void(Result<>)> done) override { done(outcome); }
  void mount_paths(const k8s::Pod&, const std::string&,
                   std::function<void(Result<std::vector<std::string>>)> done) override {
    done(std::vector<std::string>{});
  }
  void tear_down(const std::string&, std::function<void(Result<>)> done) override { done(outcome); }
};

class FakeFiles final : public PodFiles {
 public:
  std::map<std::string, std::string> files;
  Result<> write(const std::string& path, const std::string& text) override {
    files[path] = text;
    return {};
  }
  Result<> make_folder(const std::string& path) override {
    folders.insert(path);
    return {};
  }
  Result<> remove_folder(const std::string& path) override {
    std::erase_if(folders, [&](const std::string& folder) { return folder.starts_with(path); });
    return {};
  }
  std::set<std::string> folders;
};

class WorkerTest : public ::testing::Test {
 protected:
  Loop loop;
  ManualClock clock;
  FakeRuntime runtime{clock};
  FakeVolumes volumes;
  FakeFiles files;
  Cgroups cgroups{{}};
  NodeFacts node{.pods_dir = "/state"};
  WorkerContext context{.loop = loop,
                        .clock = clock,
                        .runtime = runtime,
                        .volumes = volumes,
                        .files = files,
                        .cgroups = cgroups,
                        .node = node,
                        .node_name = "n1",
                        .node_ips = {},
                        .config_map = [](const std::string&) { return nullptr; },
                        .secret = [](const std::string&) { return nullptr; }};
  int changed = 0;
  Worker worker{context, std::make_shared<k8s::Pod>(make_pod()), [this] { ++changed; }};
  PodRuntimeView view{{sandbox()}, {}};

  WorkerTest() { runtime.sandboxes["s0"].set_state(api::SANDBOX_READY); }
  void act(std::vector<Action> actions) {
    worker.begin({.actions = std::move(actions), .wake = {}, .gone = false}, view);
    for (int i = 0; i < 10; ++i) loop.poll();
  }
};

TEST_F(WorkerTest, MakesAndStartsAContainer) {
  act({{.what = Do::kCreateContainer, .name = "web", .attempt = 1, .streak = 1}});
  EXPECT_EQ(runtime.calls, (std::vector<std::string>{"ImageStatus", "CreateContainer", "StartContainer"}));
  EXPECT_EQ(runtime.find("web")->config.image().image(), "sha256:1");
  EXPECT_EQ(runtime.find("web")->sandbox_id, "s0");
  EXPECT_TRUE(files.files.contains("/state/u1/etc-hosts"));
  EXPECT_EQ(changed, 1);
  EXPECT_FALSE(worker.busy());
  EXPECT_TRUE(worker.history().failures.empty());
}

TEST_F(WorkerTest, PullsByPolicy) {
  runtime.has_image = false;
  act({{.what = Do::kCreateContainer, .name = "web"}});
  EXPECT_EQ(runtime.calls[1], "PullImage");
  EXPECT_EQ(runtime.find("web")->config.image().image(), "sha256:2");

  auto pod = make_pod();
  pod.mutable_spec()->mutable_containers(0)->set_imagepullpolicy("Never");
  worker.set_pod(std::make_shared<k8s::Pod>(pod));
  act({{.what = Do::kCreateContainer, .name = "web"}});
  EXPECT_EQ(worker.history().failures.at("web").reason, "ErrImageNeverPull");
}

TEST_F(WorkerTest, FailedPullsBackOff) {
  runtime.has_image = false;
  runtime.errors["PullImage"] = Error{Code::kNotFound, "no such image"};
  act({{.what = Do::kCreateContainer, .name = "web"}});
  EXPECT_EQ(worker.history().failures.at("web").reason, "ErrImagePull");
  EXPECT_EQ(worker.history().failures.at("web").until, clock.wall() + std::chrono::seconds(10));
  act({{.what = Do::kCreateContainer, .name = "web"}});
  EXPECT_EQ(worker.history().failures.at("web").reason, "ImagePullBackOff");
  EXPECT_EQ(worker.history().failures.at("web").until, clock.wall() + std::chrono::seconds(20));
  runtime.errors.clear();
  act({{.what = Do::kCreateContainer, .name = "web"}});
  EXPECT_TRUE(worker.history().failures.empty());
}

TEST_F(WorkerTest, KillsTogetherAndThenStops) {
  act({{.what = Do::kKillContainer, .name = "a", .id = "a0"},
       {.what = Do::kKillContainer, .name = "b", .id = "b0"},
       {.what = Do::kStopSandbox, .id = "s0"}});
  EXPECT_EQ(runtime.calls, (std::vector<std::string>{"StopContainer", "StopContainer"}));
  EXPECT_EQ(changed, 1);
}

TEST_F(WorkerTest, StopsTheDeadSandboxFirst) {
  act({{.what = Do::kCreateSandbox, .id = "s0", .attempt = 1}});
  EXPECT_EQ(runtime.calls, (std::vector<std::string>{"StopPodSandbox", "RunPodSandbox"}));
  EXPECT_EQ(changed, 1);
}

TEST_F(WorkerTest, TearsDownThePodsLogsAndNoOthers) {
  const std::string logs = log_directory(node, worker.pod());
  files.folders = {logs, logs + "/main", "/another pod's"};
  act({{.what = Do::kTearDown}});
  EXPECT_TRUE(worker.history().torn_down);
  EXPECT_EQ(files.folders, (std::set<std::string>{"/another pod's"}));
}

TEST_F(WorkerTest, TearsDownWhatIsGoneAlready) {
  runtime.errors["RemovePodSandbox"] = Error{Code::kNotFound, "gone"};
  act({{.what = Do::kTearDown}});
  EXPECT_TRUE(worker.history().torn_down);
  act({{.what = Do::kRemoveSandbox, .id = "s0"}});
  EXPECT_EQ(changed, 2);
}

}  // namespace
}  // namespace fairlead::pods
