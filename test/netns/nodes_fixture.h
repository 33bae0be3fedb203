// SPDX-License-Identifier: Apache-2.0
// Nodes: the fixture of all tests of two nodes, their pods and the world, as nodes_bed.h draws them: natively routed,
// and through the tunnel over either family.
//
//      a1, a2 ─ n1 ─┐
//                   ├─ lan ── world
//          b1 ─ n2 ─┘
//         (c1 ─ n3, where there are three)
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "test/netns/nodes_bed.h"

namespace fairlead {

// Runs `task` in the namespace and gives what it gave.
template <class Task>
auto in(const testkit::PodNetns& where, Task task) {
  std::optional<decltype(task())> out;
  where.run([&] { out.emplace(task()); });
  return std::move(*out);
}

std::string why(const auto& result) {
  return result ? std::string() : result.error().message();
}

// Whom the observer at `to` sees when `from` speaks to it by TCP and by UDP: both the same.
inline Result<IpAddress> seen(const testkit::PodNetns& from, const testkit::Endpoint& to) {
  FL_LET(const testkit::Stream stream, in(from, [&] { return testkit::Stream::connect(to); }));
  FL_LET(const testkit::Endpoint datagram, in(from, [&] { return testkit::ask_datagram(to); }));
  if (stream.seen().address != datagram.address) {
    return fail(Code::kInvalid, "TCP from {}, UDP from {}", stream.seen().address, datagram.address);
  }
  return datagram.address;
}

struct Native {
  static testkit::BedOptions options() { return {.name = "nodes-native", .flags = {"--tunnel=none"}}; }
  static constexpr unsigned kMtu = 1500;
};
struct Vxlan {
  static testkit::BedOptions options() { return {.name = "nodes-vxlan", .flags = {"--tunnel=vxlan"}}; }
  static constexpr unsigned kMtu = 1450;
};
// IPv6 between the nodes, and both families for pods.
struct VxlanOverIpv6 {
  static testkit::BedOptions options() {
    return {.name = "nodes-vxlan6",
            .underlay = {Family::kV6, Family::kV4},
            .flags = {"--tunnel=vxlan", "--vxlan-port=4789"}};
  }
  static constexpr unsigned kMtu = 1430;
};

// This process is in namespaces of its own from here on.
inline const Result<>& entered() {
  static const Result<> once = testkit::enter_node_namespace("nodes");
  return once;
}

// Of a mode, with a third node.
template <class Mode>
struct Three : Mode {
  static testkit::BedOptions options() {
    testkit::BedOptions out = Mode::options();
    out.name += "-three";
    out.nodes = 3;
    return out;
  }
};

inline constexpr std::pair<unsigned, const char*> kPods[] = {{1, "a1"}, {1, "a2"}, {2, "b1"}, {3, "c1"}};

template <class Mode>
class Nodes : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    ASSERT_TRUE(entered()) << why(entered());
    auto options = Mode::options();
    options.flags.push_back("--non-masquerade-cidr=203.0.113.0/24,2001:db8:113::/64");
    auto made = testkit::NodesBed::make(std::move(options));
    ASSERT_TRUE(made) << why(made);
    bed = std::move(*made);
    for (const auto& [node, name] : kPods) {
      if (node <= bed->options().nodes) add_pod(node, name);
    }
  }
  static void TearDownTestSuite() {
    pods.clear();
    bed.reset();
  }
  void SetUp() override {
    ASSERT_NE(bed, nullptr);
    for (const auto& [node, name] : kPods) {
      ASSERT_EQ(pods.contains(name), node <= bed->options().nodes) << "the bed is not whole: " << name;
    }
  }
  // Sockets of the next test are no hook's again.
  void TearDown() override { EXPECT_TRUE(bed->cgroup().leave()); }
  // Sockets of the test are seen by the hooks from here on.
  static void enter_cgroup() { ASSERT_TRUE(bed->cgroup().enter()); }

  static void add_pod(unsigned node, const std::string& name, const Json& runtime_config = Json::object()) {
    auto pod = bed->node(node).add_pod(name, runtime_config);
    ASSERT_TRUE(pod) << why(pod);
    pods.emplace(name, std::move(*pod));
  }
  static const testkit::BedPod& pod(const std::string& name) { return pods.at(name); }
  static const std::vector<Family>& families() { return bed->options().families; }

  static inline std::unique_ptr<testkit::NodesBed> bed;
  static inline std::map<std::string, testkit::BedPod> pods;
};

using NodesModes = testing::Types<Native, Vxlan, VxlanOverIpv6>;

}  // namespace fairlead
