// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/worker.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <vector>

#include "test/unit/pods/fake_runtime.h"
#include "test/unit/pods/pod.h"

namespace fairlead::pods {
namespace {

class FakeVolumes final : public VolumeSetup {
 public:
  Result<> outcome;
  void set_up(const k8s::Pod&, std::function<void(Result<>)> done) override { done(outcome); }
  void mount_paths(const std::string&, const k8s::Container& container,
                   std::function<void(Result<std::vector<std::string>>)> done) override {
    std::vector<std::string> paths;
    for (const auto& mount : container.volumemounts()) paths.push_back("/v/" + mount.name() + "/" + mount.subpath());
    done(std::move(paths));
  }
  void refresh(const k8s::Pod&) override {}
  void tear_down(const std::string&, std::function<void(Result<>)> done) override { done(outcome); }
};

class FakeFiles final : public PodFiles {
 public:
  std::map<std::string, std::string> files;
  Result<std::string> read(const std::string& path) override {
    const auto at = files.find(path);
    if (at == files.end()) return fail(Code::kNotFound, "open {}: no such file", path);
    return at->second;
  }
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
  ConfigLookup config = [this](ConfigKind, const std::string& key) -> Result<std::shared_ptr<const model::ConfigData>> {
    const auto at = secrets.find(key);
    return at == secrets.end() ? nullptr : at->second;
  };
  std::map<std::string, std::shared_ptr<const model::ConfigData>> secrets;
  std::pair<Sender<model::EventNote>, Receiver<model::EventNote>> notes = make_channel<model::EventNote>();
  Events events{clock, notes.first};
  Images images{loop, clock, runtime, config, events};
  WorkerContext context{.loop = loop,
                        .clock = clock,
                        .runtime = runtime,
                        .volumes = volumes,
                        .files = files,
                        .cgroups = cgroups,
                        .node = node,
                        .images = images,
                        .events = events,
                        .node_name = "n1",
                        .node_ips = {},
                        .allocatable = {},
                        .config = config,
                        .services = [](const k8s::Pod&) { return Env(); }};
  int changed = 0;
  Change last;
  Worker worker{context, std::make_shared<k8s::Pod>(make_pod()), [this](const Change& change) {
                  ++changed;
                  last = change;
                }};
  PodRuntimeView view{{sandbox()}, {}};

  WorkerTest() { runtime.sandboxes["s0"].set_state(api::SANDBOX_READY); }
  // Of the events since the last call, in order.
  std::string reasons() {
    std::string text;
    for (const auto& note : notes.second.take()) text += (text.empty() ? "" : " ") + note.reason;
    return text;
  }
  void act(std::vector<Action> actions) {
    worker.begin({.actions = std::move(actions), .wake = {}, .gone = false}, view);
    for (int i = 0; i < 20; ++i) loop.poll();
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

TEST_F(WorkerTest, PullsWithTheLoginThatServes) {
  runtime.has_image = false;
  runtime.password = "right";
  auto pod = make_pod();
  pod.mutable_spec()->mutable_containers(0)->set_image("registry.example/team/a:1");
  for (const char* name : {"none", "pull"}) pod.mutable_spec()->add_imagepullsecrets()->set_name(name);
  worker.set_pod(std::make_shared<k8s::Pod>(pod));
  auto secret = std::make_shared<model::ConfigData>();
  secret->data[".dockerconfigjson"] = R"({"auths": {"registry.example/team": {"username": "a", "password": "wrong"},
    "registry.example": {"username": "b", "password": "right"}, "other.example": {"username": "c"}}})";
  secrets["ns/pull"] = secret;
  act({{.what = Do::kCreateContainer, .name = "web"}});
  ASSERT_EQ(runtime.pulls.size(), 2U);
  EXPECT_EQ(runtime.pulls[0].auth().username(), "a");
  EXPECT_EQ(runtime.pulls[1].auth().username(), "b");
  EXPECT_NE(runtime.find("web"), nullptr);
  EXPECT_EQ(reasons(), "FailedToRetrieveImagePullSecret Pulling Pulled Created Started");
}

TEST_F(WorkerTest, RootIsRefusedWhereItShallNotBe) {
  auto pod = make_pod();
  auto& security = *pod.mutable_spec()->mutable_containers(0)->mutable_securitycontext();
  security.set_runasnonroot(true);
  const auto outcome = [&] {
    worker.set_pod(std::make_shared<k8s::Pod>(pod));
    worker.history().failures.clear();
    act({{.what = Do::kCreateContainer, .name = "web"}});
    const auto at = worker.history().failures.find("web");
    return at == worker.history().failures.end() ? "" : at->second.message;
  };
  EXPECT_EQ(outcome(), "container has runAsNonRoot and image will run as root");
  runtime.image.set_username("nginx");
  EXPECT_EQ(outcome(),
            "container has runAsNonRoot and image has non-numeric user (nginx), cannot verify user is non-root");
  security.set_runasuser(0);
  EXPECT_EQ(outcome(), "container's runAsUser breaks non-root policy");
  EXPECT_EQ(runtime.find("web"), nullptr);
  security.set_runasuser(7);
  EXPECT_EQ(outcome(), "");
  security.clear_runasuser();
  runtime.image.clear_username();
  runtime.image.mutable_uid()->set_value(33);
  EXPECT_EQ(outcome(), "");
}

TEST_F(WorkerTest, TellsWhatIsToBeLookedAt) {
  act({{.what = Do::kSetUpVolumes}});
  EXPECT_EQ(last.what, Change::Of::kNothing);
  act({{.what = Do::kCreateSandbox}});
  EXPECT_EQ(last.what, Change::Of::kSandbox);
  EXPECT_TRUE(runtime.sandboxes.contains(last.id));
  act({{.what = Do::kCreateContainer, .name = "web"}});
  EXPECT_EQ(last.what, Change::Of::kContainer);
  EXPECT_TRUE(runtime.containers.contains(last.id));
  EXPECT_EQ(last.sandbox_id, "s0");
  const std::string web = last.id;
  act({{.what = Do::kKillContainer, .name = "web", .id = web}, {.what = Do::kKillContainer, .name = "b", .id = "b0"}});
  EXPECT_EQ(last.what, Change::Of::kAnything);
  act({{.what = Do::kKillContainer, .name = "web", .id = web}});
  EXPECT_EQ(last.what, Change::Of::kContainer);
  EXPECT_EQ(last.id, web);
  runtime.errors["RunPodSandbox"] = Error{Code::kTimeout, "no answer"};
  act({{.what = Do::kCreateSandbox}});
  EXPECT_EQ(last.what, Change::Of::kAnything);
}

// However many pods go at once, the runtime is not given all of them at once: what runs on goes on.
TEST_F(WorkerTest, SandboxesEndAFewAtATime) {
  std::vector<std::unique_ptr<Worker>> workers;
  for (int i = 0; i < 6; ++i) {
    workers.push_back(std::make_unique<Worker>(context, std::make_shared<k8s::Pod>(make_pod()), [](const Change&) {}));
  }
  runtime.held = {"StopPodSandbox"};
  for (const auto& each : workers) {
    each->begin({.actions = {{.what = Do::kStopSandbox, .id = "s0"}}, .wake = {}, .gone = false}, view);
  }
  const auto poll = [this] {
    for (int i = 0; i < 20; ++i) loop.poll();
  };
  poll();
  EXPECT_EQ(runtime.count("StopPodSandbox"), 2U);
  workers[5].reset();  // gives up its place in the queue
  runtime.release();
  poll();
  EXPECT_EQ(runtime.count("StopPodSandbox"), 5U);
  EXPECT_FALSE(workers[4]->busy());
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

TEST_F(WorkerTest, ASandboxHasTheNodesResolverAsItIsThen) {
  node.dns.resolv_conf = "/etc/resolv.conf";
  act({{.what = Do::kCreateSandbox}});
  EXPECT_EQ(worker.history().failures.at(kSandboxKey).message, "open /etc/resolv.conf: no such file");
  EXPECT_EQ(runtime.calls, std::vector<std::string>());
  EXPECT_EQ(reasons(), "FailedCreatePodSandBox");

  files.files["/etc/resolv.conf"] = "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver ::1\nnameserver ::2\n";
  act({{.what = Do::kCreateSandbox}});
  EXPECT_EQ(runtime.calls, std::vector<std::string>{"RunPodSandbox"});
  EXPECT_EQ(reasons(), "MissingClusterDNS DNSConfigForming");
  EXPECT_TRUE(worker.history().failures.empty());

  files.files["/etc/resolv.conf"] = "nameserver";
  act({{.what = Do::kCreateSandbox}});
  EXPECT_EQ(worker.history().failures.at(kSandboxKey).message, "/etc/resolv.conf: nameserver list is empty");

  auto pod = make_pod();
  pod.mutable_spec()->set_dnspolicy("None");  // of the node's nothing counts
  worker.set_pod(std::make_shared<k8s::Pod>(pod));
  act({{.what = Do::kCreateSandbox}});
  EXPECT_TRUE(worker.history().failures.empty());
}

TEST_F(WorkerTest, AFullNameTooLongForAKernelStartsNothing) {
  auto pod = make_pod();
  pod.mutable_spec()->set_hostname(std::string(60, 'h'));
  pod.mutable_spec()->set_subdomain("db");
  pod.mutable_spec()->set_sethostnameasfqdn(true);
  worker.set_pod(std::make_shared<k8s::Pod>(pod));
  act({{.what = Do::kCreateSandbox}});
  EXPECT_EQ(runtime.calls, std::vector<std::string>());
  EXPECT_EQ(worker.history().failures.at(kSandboxKey).reason, "FailedCreatePodSandBox");
  EXPECT_TRUE(worker.history().failures.at(kSandboxKey).message.contains("is too long (64 characters is the max"));
}

TEST_F(WorkerTest, TheHostsFileIsMadeAnewWithEachContainer) {
  auto pod = make_pod();
  pod.mutable_spec()->set_hostnetwork(true);
  pod.mutable_spec()->set_dnspolicy("Default");
  worker.set_pod(std::make_shared<k8s::Pod>(pod));
  const std::string& hosts = files.files["/state/u1/etc-hosts"];
  act({{.what = Do::kCreateContainer, .name = "web"}});
  EXPECT_EQ(hosts, "# Kubernetes-managed hosts file (host network).\n");
  files.files["/etc/hosts"] = "127.0.0.1 n1\n";
  act({{.what = Do::kCreateContainer, .name = "web", .attempt = 1}});
  EXPECT_EQ(hosts, "# Kubernetes-managed hosts file (host network).\n127.0.0.1 n1\n");
}

TEST_F(WorkerTest, ASubPathMayTellOfVariables) {
  auto pod = make_pod();
  auto& container = *pod.mutable_spec()->mutable_containers(0);
  auto& mount = *container.add_volumemounts();
  mount.set_name("logs");
  mount.set_mountpath("/logs");
  mount.set_subpathexpr("$(WHO)");
  worker.set_pod(std::make_shared<k8s::Pod>(pod));
  act({{.what = Do::kCreateContainer, .name = "web"}});
  EXPECT_EQ(worker.history().failures.at("web").reason, "CreateContainerConfigError");
  EXPECT_EQ(worker.history().failures.at("web").message, "missing value for WHO");
  auto& variable = *container.add_env();
  variable.set_name("WHO");
  variable.set_value("me");
  worker.set_pod(std::make_shared<k8s::Pod>(pod));
  act({{.what = Do::kCreateContainer, .name = "web"}});
  EXPECT_EQ(runtime.find("web")->config.mounts(0).host_path(), "/v/logs/me");
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
