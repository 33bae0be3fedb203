// SPDX-License-Identifier: Apache-2.0
// Two pods of a node, Services in the maps, and packets between them: what the tests of the packet path share.
#pragma once

#include <gtest/gtest.h>
#include <linux/pkt_cls.h>

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "agent/datapath/bpf_load_balancer.h"
#include "agent/datapath/map.h"
#include "bpf/abi/conntrack.h"
#include "bpf/abi/service.h"
#include "test/kit/data_path.h"
#include "test/kit/netns.h"
#include "test/kit/packet.h"

namespace fairlead::datapath {

using testkit::Bytes;
using testkit::frame;
using testkit::Ip;
using testkit::Pod;
using testkit::Transport;
using testkit::Verdict;

IpAddress ip(const std::string& text);

using namespace testkit::tcp_flags;

// An address of each family, by which a test for one is a test for both.
struct FamilyCase {
  Family family;
  IpAddress service;  // a Service's address
  IpAddress remote;   // beyond the node
  std::size_t size;   // of an IP header
};

class PacketPath : public testing::Test {
 protected:
  static void SetUpTestSuite();
  static void TearDownTestSuite();
  // No Service and no connection is left of an earlier test.
  void SetUp() override;

  static const std::vector<FamilyCase>& families();

  static void serve(const IpAddress& address, std::uint16_t port, Protocol protocol,
                    const std::vector<Backend>& backends);
  static Verdict from_pod(const Pod& pod, const Bytes& packet);
  static Verdict to_pod(const Pod& pod, const Bytes& packet);
  // What `pod` sends to `to`, and what is expected to come out at `receiver`.
  static Bytes sent(const Pod& pod, const IpAddress& to, const Transport& transport);
  static Bytes received(const Pod& receiver, const IpAddress& from, const Transport& transport);
  // As it leaves for the stack, or comes from there.
  static Bytes for_stack(const Pod& pod, const IpAddress& from, const IpAddress& to, const Transport& transport);
  static Bytes from_stack(const Pod& pod, const IpAddress& from, const IpAddress& to, const Transport& transport);

  static std::uint64_t count(const std::string& reason);
  static void expect_drop(const Verdict& verdict, const std::string& reason, std::uint64_t before);

  // The connections of the family that are there: their slots' heads.
  static std::vector<ct_head> connections(Family family, const testkit::DataPath& path = *path_);
  // What is in an index of connections ("ct4", "ct6"): bpf/abi/conntrack.h, CT_ENTRY().
  static std::multiset<std::uint64_t> index_entries(const BpfRoot& root, const std::string& map);
  static std::uint32_t hz();
  // Moves every deadline of the family into the past by as much.
  static void age(Family family, std::uint32_t seconds);
  // As the agent's flush does.
  static void condemn(Family family);
  // One tick of every shard: all that a test can have used. Gives jiffies.
  static std::uint32_t sweep();

  static inline std::unique_ptr<testkit::DataPath> path_;
  static inline std::unique_ptr<BpfLoadBalancer> balancer_;
  static inline std::vector<std::string> served_;
  static inline Pod a_;
  static inline Pod b_;
};

}  // namespace fairlead::datapath
