// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/cri_config.h"

#include <gmock/gmock.h>
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

api::Image image(const std::string& id) {
  api::Image made;
  made.set_id(id);
  return made;
}

api::PodSandboxConfig sandbox_of(const NodeFacts& node, const k8s::Pod& pod, std::uint32_t attempt = 0) {
  return sandbox_config(node, pod, attempt, {}).value();
}

TEST(CriConfig, SandboxReadsAsKubelets) {
  auto pod = make_pod();
  (*pod.mutable_metadata()->mutable_labels())["app"] = "x";
  const auto config = sandbox_of(facts(), pod, 2);
  EXPECT_EQ(config.metadata().attempt(), 2U);
  EXPECT_EQ(config.labels().at("app"), "x");
  EXPECT_EQ(config.labels().at("io.kubernetes.pod.uid"), "u1");
  EXPECT_EQ(config.labels().at("fairlead.io/owner"), "n1-abc");
  EXPECT_EQ(config.log_directory(), "/logs/ns_p_u1");
  EXPECT_EQ(config.hostname(), "p");
  EXPECT_EQ(config.linux().cgroup_parent(), "/fl/kubepods/besteffort/podu1");
  EXPECT_EQ(config.linux().security_context().namespace_options().network(), api::POD);
  pod.mutable_spec()->set_hostnetwork(true);
  EXPECT_EQ(sandbox_of(facts(), pod).linux().security_context().namespace_options().network(), api::NODE);
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
  const auto config = container_config({node, pod, container, 3, 2, image("sha256:1"), env, mounts});
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
  const auto config = container_config({node, pod, pod.spec().containers(0), 0, 0, image(""), env, none});
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

TEST(CriConfig, WhomAContainerRunsAsAndWhatItMay) {
  auto pod = make_pod();
  auto& shared = *pod.mutable_spec()->mutable_securitycontext();
  auto& own = *pod.mutable_spec()->mutable_containers(0)->mutable_securitycontext();
  const auto get = [&] { return container_security(pod, pod.spec().containers(0), image("i")); };
  EXPECT_FALSE(get().has_run_as_user());
  EXPECT_FALSE(get().no_new_privs());
  EXPECT_EQ(get().seccomp().profile_type(), api::SecurityProfile::Unconfined);
  EXPECT_GT(get().masked_paths_size(), 0);

  shared.set_runasuser(1000);
  shared.set_runasgroup(2000);
  shared.set_fsgroup(3000);
  shared.add_supplementalgroups(4000);
  shared.mutable_seccompprofile()->set_type("RuntimeDefault");
  EXPECT_EQ(get().run_as_user().value(), 1000);
  EXPECT_EQ(get().run_as_group().value(), 2000);
  EXPECT_EQ(get().supplemental_groups_size(), 2);
  EXPECT_EQ(get().supplemental_groups(0), 3000);
  EXPECT_EQ(get().supplemental_groups(1), 4000);
  EXPECT_EQ(get().seccomp().profile_type(), api::SecurityProfile::RuntimeDefault);
  const auto sandbox = sandbox_of(facts(), pod).linux().security_context();
  EXPECT_EQ(sandbox.run_as_user().value(), 1000);
  EXPECT_FALSE(sandbox.privileged());

  own.set_runasuser(0);
  own.mutable_seccompprofile()->set_type("Unconfined");
  own.set_readonlyrootfilesystem(true);
  own.set_allowprivilegeescalation(false);
  own.mutable_capabilities()->add_drop("ALL");
  own.mutable_capabilities()->add_add("NET_BIND_SERVICE");
  EXPECT_TRUE(get().has_run_as_user());
  EXPECT_EQ(get().run_as_user().value(), 0);
  EXPECT_EQ(get().seccomp().profile_type(), api::SecurityProfile::Unconfined);
  EXPECT_TRUE(get().readonly_rootfs());
  EXPECT_TRUE(get().no_new_privs());
  EXPECT_EQ(get().capabilities().drop_capabilities(0), "ALL");
  EXPECT_EQ(get().capabilities().add_capabilities(0), "NET_BIND_SERVICE");

  own.clear_allowprivilegeescalation();
  own.set_privileged(true);
  own.mutable_seccompprofile()->set_type("RuntimeDefault");
  EXPECT_TRUE(get().privileged());
  EXPECT_EQ(get().masked_paths_size(), 0);
  EXPECT_EQ(get().seccomp().profile_type(), api::SecurityProfile::Unconfined);
  EXPECT_TRUE(sandbox_of(facts(), pod).linux().security_context().privileged());
}

// Runtimes refuse a group without a user.
TEST(CriConfig, AGroupAloneTakesTheImagesUser) {
  auto pod = make_pod();
  pod.mutable_spec()->mutable_securitycontext()->set_runasgroup(5);
  auto of = image("i");
  EXPECT_EQ(container_security(pod, pod.spec().containers(0), of).run_as_user().value(), 0);
  of.mutable_uid()->set_value(33);
  EXPECT_EQ(container_security(pod, pod.spec().containers(0), of).run_as_user().value(), 33);
  of.clear_uid();
  of.set_username("nginx");
  EXPECT_EQ(container_security(pod, pod.spec().containers(0), of).run_as_username(), "nginx");
  EXPECT_FALSE(container_security(pod, pod.spec().containers(0), of).has_run_as_user());
}

TEST(CriConfig, NamespacesAndMounts) {
  auto pod = make_pod();
  pod.mutable_spec()->set_hostpid(true);
  pod.mutable_spec()->set_hostipc(true);
  auto& mount = *pod.mutable_spec()->mutable_containers(0)->add_volumemounts();
  mount.set_mountpath("/host");
  mount.set_mountpropagation("Bidirectional");
  const NodeFacts node = facts();
  const Env env;
  const std::vector<std::string> paths{"/"};
  const auto config = container_config({node, pod, pod.spec().containers(0), 0, 0, image("i"), env, paths});
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->linux().security_context().namespace_options().pid(), api::NODE);
  EXPECT_EQ(config->linux().security_context().namespace_options().ipc(), api::NODE);
  EXPECT_EQ(config->mounts(0).propagation(), api::PROPAGATION_BIDIRECTIONAL);
  pod.mutable_spec()->set_hostpid(false);
  pod.mutable_spec()->set_shareprocessnamespace(true);
  EXPECT_EQ(sandbox_of(node, pod).linux().security_context().namespace_options().pid(), api::POD);
}

TEST(CriConfig, TheSandboxHasItsNamesAndItsResolver) {
  NodeFacts node = facts();
  node.dns.cluster_domain = "cluster.local";
  auto pod = make_pod();
  pod.mutable_spec()->set_subdomain("db");
  pod.mutable_spec()->set_sethostnameasfqdn(true);
  const Resolver resolver{.servers = {"10.0.0.2"}, .searches = {"a.b", "c"}, .options = {"ndots:5"}};
  const auto config = sandbox_config(node, pod, 0, resolver);
  ASSERT_TRUE(config) << config.error().message();
  EXPECT_EQ(config->hostname(), "p.db.ns.svc.cluster.local");
  EXPECT_THAT(config->dns_config().servers(), testing::ElementsAre("10.0.0.2"));
  EXPECT_THAT(config->dns_config().searches(), testing::ElementsAre("a.b", "c"));
  EXPECT_THAT(config->dns_config().options(), testing::ElementsAre("ndots:5"));
  pod.mutable_spec()->set_hostname(std::string(60, 'h'));
  EXPECT_EQ(sandbox_config(node, pod, 0, resolver).error().code, Code::kInvalid);
  pod.mutable_spec()->set_hostnetwork(true);  // the node's own name
  EXPECT_EQ(sandbox_config(node, pod, 0, resolver).value().hostname(), "");
}

TEST(CriConfig, HostPortsAreMapped) {
  auto pod = make_pod("Always", {"web", "side"});
  const auto add = [&](int container, int number, int host, const std::string& protocol, const std::string& ip) {
    auto& port = *pod.mutable_spec()->mutable_containers(container)->add_ports();
    port.set_containerport(number);
    port.set_hostport(host);
    port.set_protocol(protocol);
    port.set_hostip(ip);
  };
  add(0, 8080, 80, "TCP", "192.0.2.1");
  add(0, 8081, 0, "TCP", "");
  add(1, 53, 5353, "UDP", "");
  add(1, 54, 54, "SCTP", "");
  std::vector<std::string> mapped;
  const auto config = sandbox_of(facts(), pod);
  for (const auto& each : config.port_mappings()) {
    mapped.push_back(fmt::format("{}:{}->{}/{}", each.host_ip(), each.host_port(), each.container_port(),
                                 api::Protocol_Name(each.protocol())));
  }
  EXPECT_THAT(mapped, testing::ElementsAre("192.0.2.1:80->8080/TCP", ":5353->53/UDP", ":54->54/SCTP"));
  pod.mutable_spec()->set_hostnetwork(true);
  EXPECT_EQ(sandbox_of(facts(), pod).port_mappings_size(), 0);
}

TEST(CriConfig, AContainersOwnHostsFileIsLeftAlone) {
  const NodeFacts node = facts();
  auto pod = make_pod();
  pod.mutable_spec()->mutable_containers(0)->add_volumemounts()->set_mountpath("/etc/hosts");
  const Env env;
  const std::vector<std::string> paths{"/v/hosts"};
  const auto config = container_config({node, pod, pod.spec().containers(0), 0, 0, image("i"), env, paths});
  ASSERT_TRUE(config) << config.error().message();
  ASSERT_EQ(config->mounts_size(), 1);
  EXPECT_EQ(config->mounts(0).host_path(), "/v/hosts");
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
