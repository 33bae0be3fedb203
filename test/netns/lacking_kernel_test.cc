// SPDX-License-Identifier: Apache-2.0
// What the machine or its kernel may lack: the agent does without it, or its error names the way out.
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/syscall.h>

#include <cerrno>
#include <filesystem>
#include <string>
#include <vector>

#include "agent/datapath/bpf_node_paths.h"
#include "agent/datapath/pod_programs.h"
#include "agent/datapath/sock_programs.h"
#include "agent/netlink/socket.h"
#include "test/kit/cgroup.h"
#include "test/kit/data_path.h"
#include "test/kit/lacking_kernel.h"
#include "test/kit/netns.h"
#include "test/kit/process.h"

namespace fairlead::datapath {
namespace {

template <class Outcome>
std::string error_of(const Outcome& outcome) {
  return outcome ? "no error" : outcome.error().message();
}

bool says(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

constexpr PodCapacities kSmall{.connections = 64, .translated = 64, .services = {}, .policy = {64, 64, 64}};

class LackingKernel : public testing::Test {
 protected:
  static void SetUpTestSuite() { ASSERT_TRUE(testkit::enter_node_namespace("lacking-kernel")); }
  void TearDown() override {
    auto root = BpfRoot::open(path());
    ASSERT_TRUE(root && root->clear());
  }
  static std::string path() { return testkit::bpffs() + "/fairlead"; }
};

TEST_F(LackingKernel, NoBpffs) {
  const std::string error = error_of(BpfRoot::open(testkit::folder() + "/no-bpffs/fairlead"));
  EXPECT_TRUE(says(error, "not on a bpf filesystem") && says(error, "mount -t bpf") && says(error, "--bpf-root"))
      << error;
}

TEST_F(LackingKernel, NoCgroup2) {
  const auto root = BpfRoot::open(path()).value();
  const auto programs = SockPrograms::load(root, {.frontends = 64,
                                                  .services = 64,
                                                  .run_slots = 64,
                                                  .backends = 64,
                                                  .affinities = 64,
                                                  .clients = 64,
                                                  .connected = 64,
                                                  .spilled = 64})
                            .value();
  const std::string elsewhere = error_of(programs->attach(testkit::folder()));
  EXPECT_TRUE(says(elsewhere, "not in a cgroup2 hierarchy") && says(elsewhere, "--cgroup-root")) << elsewhere;
  // The mount namespace is the test's own. There may be several, one over the other.
  std::vector<std::string> mounts;
  for (auto mounted = find_cgroup2_root(); mounted; mounted = find_cgroup2_root()) {
    mounts.push_back(*mounted);
    ASSERT_EQ(umount2(mounted->c_str(), MNT_DETACH), 0) << *mounted;
  }
  const std::string nowhere = error_of(find_cgroup2_root());
  EXPECT_TRUE(says(nowhere, "mount -t cgroup2") && says(nowhere, "--cgroup-root")) << nowhere;
  for (const std::string& path : mounts) EXPECT_EQ(mount("none", path.c_str(), "cgroup2", 0, nullptr), 0) << path;
}

TEST_F(LackingKernel, NoBpfForUs) {
  ASSERT_TRUE(testkit::on_kernel_without(BPF_PROG_LOAD, EPERM, [] {
    const auto root = BpfRoot::open(path()).value();
    const std::string error = error_of(BpfPodPrograms::load(root, kSmall));
    EXPECT_TRUE(says(error, "load BPF object pod") && says(error, "CAP_BPF")) << error;
  }));
}

TEST_F(LackingKernel, NoCgroupHooks) {
  auto cgroup = testkit::TestCgroup::make(*find_cgroup2_root(), "lacking-kernel").value();
  ASSERT_TRUE(testkit::on_kernel_without(BPF_LINK_CREATE, EINVAL, [&] {
    const auto root = BpfRoot::open(path()).value();
    const auto programs = SockPrograms::load(root, {}).value();
    const std::string error = error_of(programs->attach(cgroup.path()));
    EXPECT_TRUE(says(error, "links/sock_connect4: attach") && says(error, "CONFIG_CGROUP_BPF")) << error;
  }));
}

// Before Linux 6.6: a device has clsact filters instead.
TEST_F(LackingKernel, WithoutTcxThereAreFilters) {
  const auto data_path = testkit::DataPath::open("fairlead", kSmall).value();
  const testkit::Pod device = data_path->make_pod(1).value();
  const std::uint32_t ifindex = device.endpoint.ifindex;
  const auto paths = BpfNodePaths::load(data_path->pods(), data_path->root()).value();
  ASSERT_TRUE(testkit::on_kernel_without(BPF_LINK_CREATE, EINVAL, [&] {
    const auto attached = paths->attach_uplink(ifindex);
    EXPECT_TRUE(attached) << error_of(attached);
    EXPECT_EQ(paths->attached(ifindex).value_or(false), true);
  }));
  EXPECT_FALSE(std::filesystem::exists(data_path->root().link_path(fmt::format("from_uplink_{}", ifindex))));
  const auto filters = testkit::run_command("tc filter show dev host1 ingress; tc filter show dev host1 egress");
  EXPECT_TRUE(says(filters.output, "from_uplink") && says(filters.output, "to_uplink")) << filters.output;
  EXPECT_TRUE(paths->detach(ifindex));
}

TEST_F(LackingKernel, NoClsactEither) {
  const auto data_path = testkit::DataPath::open("fairlead", kSmall).value();
  testkit::run_command("ip link add bare type veth peer name bare1");
  const std::uint32_t ifindex = netlink::Socket::open().value().find_link("bare").value().ifindex;
  const auto pods = BpfPodPrograms::load(data_path->root()).value();
  // By it libbpf asks for the qdisc; kernels without sch_ingress answer so.
  ASSERT_TRUE(testkit::on_kernel_that_refuses(SYS_sendto, std::nullopt, ENOENT, [&] {
    const std::string error = error_of(pods->attach(ifindex));
    EXPECT_TRUE(says(error, "add clsact") && says(error, "CONFIG_NET_SCH_INGRESS")) << error;
  }));
  testkit::run_command("ip link del bare");
}

}  // namespace
}  // namespace fairlead::datapath
