// SPDX-License-Identifier: Apache-2.0
// Two pods of a node with an uplink, for what leaves the node and comes to it:
//
//   a, b ── node ── up0 (192.0.2.1, 2001:db8::1; masquerade) ── up1 ── remote (192.0.2.7, 2001:db8::7)
//           └ vx0: the tunnel to node 192.0.2.9 with pods 10.2.0.0/24, fd00:10:2::/64 (tests that want it)
#pragma once

#include "agent/datapath/bpf_node_paths.h"
#include "test/bpf/packet_path_fixture.h"

namespace fairlead::datapath {

class NodePath : public PacketPath {
 protected:
  static void SetUpTestSuite();
  static void TearDownTestSuite();
  // Paths, masquerade and tunnel as drawn, without the tunnel.
  void SetUp() override;

  // The node's address at the uplink, and an address of another node's pod.
  static IpAddress own(Family family);
  static IpAddress far_pod(Family family);
  static Cidr far_pods(Family family);
  static Path far_node();

  static Verdict run(const std::string& program, std::uint32_t ifindex, const Bytes& packet);
  static Verdict from_uplink(const Bytes& packet) { return run("from_uplink", uplink_, packet); }
  // As the stack sends it by the uplink, or into the tunnel, what `pod` sent.
  static Verdict to_uplink(const Pod& pod, const Bytes& packet);

  // As it comes by the uplink.
  static Bytes came(const IpAddress& from, const IpAddress& to, const Transport& transport, std::uint8_t ttl = 64);
  // As it leaves the pod's device: another source, and a hop less.
  static Bytes left(const Pod& pod, const IpAddress& from, const IpAddress& to, const Transport& transport);
  static Transport echo(Family family, bool request, std::uint16_t id);
  static std::uint16_t source_port(const Bytes& packet, Family family);

  // Nothing happened to it: it is the stack's, and nobody counted or remembers it.
  static void expect_untouched(const Verdict& verdict, const Bytes& packet);

  static inline std::unique_ptr<BpfNodePaths> paths_;
  static inline std::uint32_t uplink_ = 0;
  static inline std::uint32_t tunnel_ = 0;
};

}  // namespace fairlead::datapath
