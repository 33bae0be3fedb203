// SPDX-License-Identifier: Apache-2.0
#include "test/bpf/node_path_fixture.h"

#include <net/if.h>

#include "test/kit/process.h"

namespace fairlead::datapath {
namespace {

constexpr Mac kUplink{0x0a, 0, 0, 0, 3, 1};
constexpr Mac kRouter{0x0a, 0, 0, 0, 3, 2};

void must(const std::string& shell_line) {
  const testkit::CommandResult result = testkit::run_command(shell_line);
  ASSERT_EQ(result.code, 0) << shell_line << ": " << result.output;
}

}  // namespace

void NodePath::SetUpTestSuite() {
  PacketPath::SetUpTestSuite();
  must(fmt::format("ip link add up0 address {} type veth peer name up1 address {}", to_string(kUplink),
                   to_string(kRouter)));
  must("ip link add vx0 type vxlan id 7 dstport 8472 && ip link set vx0 up");
  must("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
  must(
      "ip link set up0 up && ip link set up1 up && ip addr add 192.0.2.1/24 dev up0 && "
      "ip addr add 2001:db8::1/64 dev up0 nodad");
  must(fmt::format("ip neigh add 192.0.2.7 dev up0 lladdr {0} && ip neigh add 2001:db8::7 dev up0 lladdr {0}",
                   to_string(kRouter)));
  must("ip route add 10.2.0.0/24 via 192.0.2.7 && ip route add fd00:10:2::/64 via 2001:db8::7");
  must("ip link set host1 up && ip link set host2 up && ip link set pod1 up && ip link set pod2 up");
  uplink_ = if_nametoindex("up0");
  tunnel_ = if_nametoindex("vx0");
  auto paths = BpfNodePaths::load(path_->pods(), path_->root());
  ASSERT_TRUE(paths) << paths.error().message();
  paths_ = std::move(*paths);
  const auto facts = paths_->facts();
  ASSERT_TRUE(facts);
  for (const auto& [object, programs] : *facts) ASSERT_TRUE(path_->add_programs(programs));
}

void NodePath::TearDownTestSuite() {
  paths_.reset();
  PacketPath::TearDownTestSuite();
}

void NodePath::SetUp() {
  PacketPath::SetUp();
  const std::map<Cidr, Path> before = paths_->paths().value();
  for (const auto& [destination, path] : before) ASSERT_TRUE(paths_->erase_path(destination));
  const auto attached = paths_->attach_uplink(uplink_);
  ASSERT_TRUE(attached) << attached.error().message();
  ASSERT_TRUE(paths_->set_masquerade({.addresses = {own(Family::kV4), own(Family::kV6)}}));
  ASSERT_TRUE(paths_->set_tunnel({}));
  for (const FamilyCase& each : families()) {
    ASSERT_TRUE(paths_->set_path(far_pods(each.family), far_node()));
    ASSERT_TRUE(paths_->set_path(Cidr::host(own(each.family)), {}));
  }
}

IpAddress NodePath::own(Family family) {
  return family == Family::kV4 ? ip("192.0.2.1") : ip("2001:db8::1");
}

IpAddress NodePath::far_pod(Family family) {
  return family == Family::kV4 ? ip("10.2.0.5") : ip("fd00:10:2::5");
}

Cidr NodePath::far_pods(Family family) {
  return Cidr::parse(family == Family::kV4 ? "10.2.0.0/24" : "fd00:10:2::/64").value();
}

Path NodePath::far_node() {
  return {PathKind::kNode, ip("192.0.2.9")};
}

Verdict NodePath::run(const std::string& program, std::uint32_t ifindex, const Bytes& packet) {
  return path_->run(program, testkit::Place{.ifindex = ifindex}, packet).value();
}

Verdict NodePath::to_uplink(const Pod& pod, const Bytes& packet) {
  return path_->run("to_uplink", testkit::Place{.ifindex = uplink_, .from = pod.endpoint.ifindex}, packet).value();
}

Bytes NodePath::came(const IpAddress& from, const IpAddress& to, const Transport& transport, std::uint8_t ttl) {
  return frame({kUplink, kRouter}, Ip{from, to, ttl}, transport);
}

Bytes NodePath::left(const Pod& pod, const IpAddress& from, const IpAddress& to, const Transport& transport) {
  return frame(pod.to_host(), Ip{from, to, 63}, transport);
}

Transport NodePath::echo(Family family, bool request, std::uint16_t id) {
  return family == Family::kV4 ? testkit::icmp(request ? 8 : 0, 0, testkit::echo_rest(id))
                               : testkit::icmp6(request ? 128 : 129, 0, testkit::echo_rest(id));
}

std::uint16_t NodePath::source_port(const Bytes& packet, Family family) {
  const std::size_t at = 14 + (family == Family::kV4 ? 20 : 40);
  return static_cast<std::uint16_t>(packet.at(at) << 8 | packet.at(at + 1));
}

void NodePath::expect_untouched(const Verdict& verdict, const Bytes& packet) {
  EXPECT_EQ(verdict.action, TC_ACT_UNSPEC);
  EXPECT_EQ(verdict.packet, packet);
}

}  // namespace fairlead::datapath
