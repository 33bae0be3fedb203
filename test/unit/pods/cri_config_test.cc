// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/cri_config.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "agent/pods/cgroups.h"
#include "test/unit/pods/pod.h"

namespace fairlead::pods {
namespace {

NodeFacts facts() {
  NodeFacts node;
  node.owner = "n1-abc";
  node.log_root = "/logs";
  node.cgroup_prefix = "/fl";
  node.pods_dir = "/state/pods";
  node.memory_bytes = 1000;
  return node;
}

TEST(CriConfig, SandboxReadsAsKubelets) {
  auto pod = make_pod();
  (*pod.mutable_metadata()->mutable_labels())["app"] = "x";
  const auto config = sandbox_config(facts(), pod, 2);
  EXPECT_EQ(config.metadata().attempt(), 2U);
  EXPECT_EQ(config.labels().at("app"), "x");
  EXPECT_EQ(config.labels().at("io.kubernetes.pod.uid"), "u1");
  EXPECT_EQ(config.labels().at("fairlead.io/owner"), "n1-abc");
  EXPECT_EQ(config.log_directory(), "/logs/ns_p_u1");
  EXPECT_EQ(config.hostname(), "p");
  EXPECT_EQ(config.linux().cgroup_parent(), "/fl/kubepods/besteffort/podu1");
  EXPECT_EQ(config.linux().security_context().namespace_options().network(), api::POD);
  pod.mutable_spec()->set_hostnetwork(true);
  EXPECT_EQ(sandbox_config(facts(), pod, 0).linux().security_context().namespace_options().network(), api::NODE);
}

TEST(CriConfig, ContainerGoesThereAndBack) {
  const NodeFacts node = facts();
  auto pod = make_pod();
  auto& container = *pod.mutable_spec()->mutable_containers(0);
  container.add_command("run");
  container.add_args("$(A)-$(B)-$$(A)");
  container.set_terminationmessagepath("/dev/termination-log");
  auto& mount = *container.add_volumemounts();
  mount.set_name("v");
  mount.set_mountpath("/data");
  const Env env{{"A", "1"}};
  const std::vector<std::string> mounts{"/host/v/sub"};
  const auto config = container_config({node, pod, container, 3, 2, "sha256:1", env, mounts});
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->args(0), "1-$(B)-$(A)");
  EXPECT_EQ(config->image().image(), "sha256:1");
  EXPECT_EQ(config->log_path(), "web/3.log");
  ASSERT_EQ(config->mounts_size(), 3);
  EXPECT_EQ(config->mounts(0).host_path(), "/host/v/sub");
  EXPECT_EQ(config->mounts(1).container_path(), "/etc/hosts");
  EXPECT_EQ(config->mounts(2).host_path(), "/state/pods/u1/containers/web/3");
  EXPECT_EQ(config->linux().security_context().namespace_options().pid(), api::CONTAINER);
  EXPECT_FALSE(config->linux().security_context().privileged());

  api::Container listed;
  listed.set_id("c1");
  *listed.mutable_metadata() = config->metadata();
  *listed.mutable_labels() = config->labels();
  *listed.mutable_annotations() = config->annotations();
  listed.set_state(api::CONTAINER_RUNNING);
  const ContainerView view = container_view(listed);
  EXPECT_EQ(view.name, "web");
  EXPECT_EQ(view.attempt, 3U);
  EXPECT_EQ(view.streak, 2U);
  EXPECT_EQ(view.hash, container_hash(container));
  EXPECT_EQ(view.state, RunState::kRunning);
}

TEST(CriConfig, EachMountNeedsItsPath) {
  const NodeFacts node = facts();
  auto pod = make_pod();
  pod.mutable_spec()->mutable_containers(0)->add_volumemounts()->set_name("v");
  const Env env;
  const std::vector<std::string> none;
  const auto config = container_config({node, pod, pod.spec().containers(0), 0, 0, "", env, none});
  ASSERT_FALSE(config);
  EXPECT_EQ(config.error().message(), "container web: 0 paths for 1 volume mounts");
}

TEST(CriConfig, Resources) {
  struct Row {
    std::map<std::string, std::string> requests, limits;
    std::int64_t shares, quota, memory, oom;
  };
  for (const Row& row :
       {Row{{}, {}, 2, 0, 0, 1000}, Row{{{"cpu", "250m"}}, {}, 256, 0, 0, 999},
        Row{{{"cpu", "1m"}}, {{"cpu", "5m"}}, 2, 1000, 0, 999},
        Row{{{"memory", "400"}}, {{"memory", "800"}}, 2, 0, 800, 600}, Row{{{"memory", "2000"}}, {}, 2, 0, 0, 3},
        Row{{}, {{"cpu", "2"}, {"memory", "100"}}, 2048, 200000, 100, -997}}) {
    auto pod = make_pod();
    auto& resources = *pod.mutable_spec()->mutable_containers(0)->mutable_resources();
    for (const auto& [key, value] : row.requests) (*resources.mutable_requests())[key].set_string(value);
    for (const auto& [key, value] : row.limits) (*resources.mutable_limits())[key].set_string(value);
    const auto got = container_resources(pod, pod.spec().containers(0), 1000);
    EXPECT_EQ(got.cpu_shares(), row.shares);
    EXPECT_EQ(got.cpu_quota(), row.quota);
    EXPECT_EQ(got.memory_limit_in_bytes(), row.memory);
    EXPECT_EQ(got.oom_score_adj(), row.oom);
  }
}

TEST(Env, Expands) {
  const std::map<std::string, std::string> values{{"A", "1"}, {"E", ""}};
  for (const auto& [text, want] : std::map<std::string, std::string>{{"$(A)", "1"},
                                                                     {"x$(A)y$(E)z", "x1yz"},
                                                                     {"$(B)", "$(B)"},
                                                                     {"$$(A)", "$(A)"},
                                                                     {"$$$(A)", "$1"},
                                                                     {"$A $", "$A $"},
                                                                     {"$(A", "$(A"}}) {
    EXPECT_EQ(expand(text, values), want) << text;
  }
}

TEST(Env, FromEverywhere) {
  auto pod = make_pod();
  (*pod.mutable_metadata()->mutable_labels())["app"] = "x";
  auto& container = *pod.mutable_spec()->mutable_containers(0);
  const auto config = std::make_shared<model::ConfigData>();
  config->data = {{"k", "v"}, {"A", "from"}};
  const FindConfig find = [&](const std::string& key) { return key == "ns/c" ? config : nullptr; };
  const EnvInput input{pod, find, find, {IpAddress::parse("10.0.0.7").value()}, {}, "n1"};
  auto& from = *container.add_envfrom();
  from.set_prefix("P_");
  from.mutable_configmapref()->mutable_localobjectreference()->set_name("c");
  const auto add = [&](const std::string& name) -> k8s::EnvVar& {
    container.add_env()->set_name(name);
    return *container.mutable_env(container.env_size() - 1);
  };
  add("ONE").set_value("$(P_k)");
  add("P_A").set_value("own");
  add("IP").mutable_valuefrom()->mutable_fieldref()->set_fieldpath("status.podIP");
  add("APP").mutable_valuefrom()->mutable_fieldref()->set_fieldpath("metadata.labels['app']");
  auto& key = *add("KEY").mutable_valuefrom()->mutable_secretkeyref();
  key.mutable_localobjectreference()->set_name("c");
  key.set_key("k");
  auto env = container_env(input, container);
  ASSERT_TRUE(env) << env.error().message();
  EXPECT_EQ(*env, (Env{{"P_A", "own"}, {"P_k", "v"}, {"ONE", "v"}, {"IP", "10.0.0.7"}, {"APP", "x"}, {"KEY", "v"}}));

  key.set_key("nope");
  EXPECT_EQ(container_env(input, container).error().message(), "couldn't find key nope in secret ns/c");
  key.set_optional(true);
  EXPECT_EQ(container_env(input, container)->size(), 5U);
  key.set_optional(false);
  key.mutable_localobjectreference()->set_name("other");
  EXPECT_EQ(container_env(input, container).error().message(), "secret \"other\" not found");
}

TEST(CriConfig, ResolvConf) {
  NodeFacts node;
  read_resolv_conf("# x\nnameserver 10.0.0.2\nsearch a.b c\noptions ndots:2 trust-ad\nnameserver ::1\n", node);
  EXPECT_EQ(node.nameservers, (std::vector<std::string>{"10.0.0.2", "::1"}));
  EXPECT_EQ(node.searches, (std::vector<std::string>{"a.b", "c"}));
  EXPECT_EQ(node.dns_options, (std::vector<std::string>{"ndots:2", "trust-ad"}));
}

TEST(Cgroups, MakesAndRemovesInEveryHierarchy) {
  EXPECT_EQ(Cgroups::find_roots("30 24 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n"
                                "31 30 0:27 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
                                "32 30 0:28 / /sys/fs/cgroup/unified rw,x shared:4 - cgroup2 cgroup2 rw\n"),
            (std::vector<std::string>{"/sys/fs/cgroup/memory", "/sys/fs/cgroup/unified"}));
  const auto base = std::filesystem::temp_directory_path() / ("fl-cgroups-test-" + std::to_string(::getpid()));
  std::filesystem::create_directories(base / "a");
  std::filesystem::create_directories(base / "b");
  const Cgroups cgroups({base / "a", base / "b"});
  const auto made = cgroups.create("/kubepods/podx");
  ASSERT_TRUE(made) << made.error().message();
  EXPECT_TRUE(std::filesystem::is_directory(base / "b/kubepods/podx"));
  ASSERT_TRUE(cgroups.create("/kubepods/podx"));
  std::filesystem::create_directory(base / "a/kubepods/podx/leaf");
  ASSERT_TRUE(cgroups.remove("/kubepods/podx"));
  EXPECT_FALSE(std::filesystem::exists(base / "a/kubepods/podx"));
  EXPECT_TRUE(std::filesystem::exists(base / "a/kubepods"));
  ASSERT_TRUE(cgroups.remove("/kubepods/podx"));
  std::filesystem::remove_all(base);
}

}  // namespace
}  // namespace fairlead::pods
