// SPDX-License-Identifier: Apache-2.0
// NodesBed: a cluster of nodes on one kernel, for tests. Each node is a network namespace with the real agent, its own
// BPF root, state, socket, uplink and pods; pods are attached by the real CNI plugin.
//
//      pods ─ n1 ─ eth0 192.0.2.11, 2001:db8::11 ─┐
//      pods ─ n2 ─ eth0 192.0.2.12, 2001:db8::12 ─┼─ lan (br0 192.0.2.1, 2001:db8::1) ─ wan0 ── eth0 world
//      pods ─ n3 ─ eth0 192.0.2.13, 2001:db8::13 ─┘        a bridge and a router                198.51.100.2
//                                                                                               2001:db8:ff::2
//   pods of node N: 10.244.N.0/24, fd00:244:N::/64        Services: 10.96.0.0/16, fd00:96::/112
//
// The router knows the nodes' network and the world's, and nothing of pods: what comes back from the world to a pod was
// masqueraded. Everybody has an Observer: pods and the world on port 8080, nodes on port 9000.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/ip.h"
#include "agent/base/local_protocol.h"
#include "agent/base/result.h"
#include "test/kit/cgroup.h"
#include "test/kit/netns.h"
#include "test/kit/process.h"
#include "test/kit/traffic.h"

namespace fairlead::testkit {

inline constexpr std::uint16_t kPodPort = 8080;  // and the world's
inline constexpr std::uint16_t kNodePort = 9000;

class NodesBed;

struct BedOptions {
  std::string name;  // of the test
  unsigned nodes = 2;
  std::vector<Family> families{Family::kV4, Family::kV6};  // of pods, of the world
  std::vector<Family> underlay{Family::kV4, Family::kV6};  // of nodes, the first is primary
  std::vector<std::string> flags;                          // of every agent, more than the bed's own
  // Gives the agents' flags for where objects come from, once LAN and nodes are there and the Node objects are among
  // the manifests; without it they are read from the manifests.
  std::function<Result<std::vector<std::string>>(const NodesBed&)> source{};
};

// A pod, or anything else that lives in a namespace of its own.
class BedPod {
 public:
  BedPod(PodNetns netns, std::string container, std::vector<IpAddress> addresses)
      : netns_(std::move(netns)), container_(std::move(container)), addresses_(std::move(addresses)) {}
  const IpAddress& address(Family family) const;
  const PodNetns& netns() const { return netns_; }
  const std::string& container() const { return container_; }
  Result<> serve(std::uint16_t port);

 private:
  PodNetns netns_;
  std::string container_;
  std::vector<IpAddress> addresses_;
  std::optional<Observer> observer_;
};

// Owner: the bed. Made with its namespace and uplink, no agent.
class BedNode {
 public:
  BedNode(NodesBed& bed, unsigned number);
  ~BedNode();

  Result<> start();  // returns once the agent says that it is synced: the next two
  Result<> launch();
  Result<> await_synced();
  void kill() { agent_.kill(); }
  // As a machine that lost power: agent, pods, devices and all that was in the kernel are gone, its disk is not. The
  // node is empty again and without an agent.
  Result<> reboot();
  Result<> make_namespace();

  // `runtime_config`, here and below: what a runtime adds to the configuration for capabilities.
  Result<BedPod> add_pod(const std::string& name, const Json& runtime_config = Json::object());
  // CNI ADD of pod "ns/name" for a namespace that is there already; its addresses. `uid`: of its object. Names are
  // unique on the node, whatever the namespace.
  Result<std::vector<IpAddress>> attach(const PodNetns& netns, const std::string& ns, const std::string& name,
                                        const std::string& uid, const Json& runtime_config = Json::object());
  Result<> delete_pod(const BedPod& pod);

  const std::string& name() const { return name_; }
  const IpAddress& address(Family family) const;
  Cidr pod_range(Family family) const;
  const PodNetns& netns() const { return *netns_; }
  Json ctl(const std::string& command) const;
  bool synced() const { return ctl("status").value("ready", false); }
  // `ip LINE` in the node's namespace.
  CommandResult ip(const std::string& line) const;
  std::string log() const;  // the agent's last lines
  pid_t agent_pid() const { return agent_.pid(); }
  std::string bpf_root() const;
  std::string manifest() const;  // its Node object

 private:
  Result<Json> plugin(const std::string& command, const std::string& container, const std::string& netns,
                      const std::string& ns, const std::string& pod, const std::string& uid,
                      const Json& runtime_config) const;
  std::string run_dir() const;
  std::vector<std::string> command_line() const;

  NodesBed& bed_;
  unsigned number_;
  std::string name_;
  std::vector<IpAddress> addresses_;  // in the order of the underlay's families
  std::optional<PodNetns> netns_;
  std::optional<Observer> observer_;
  Process agent_;
};

// Owner: the test suite. Its process has entered namespaces of its own (enter_node_namespace) before. Everything ends
// with this object, and at the latest with the process.
class NodesBed {
 public:
  // Every node with its agent, synced.
  static Result<std::unique_ptr<NodesBed>> make(BedOptions options);
  ~NodesBed();

  BedNode& node(unsigned number) { return *nodes_.at(number - 1); }
  const BedPod& world() const { return *world_; }
  const BedOptions& options() const { return options_; }
  const PodNetns& lan() const { return *lan_; }
  const TestCgroup& cgroup() const { return *cgroup_; }
  // Manifests that all agents read; a file comes and changes by a rename.
  void apply(const std::string& file, const std::string& text) const;
  void withdraw(const std::string& file) const;
  std::string manifests() const { return folder() + "/manifests"; }

 private:
  explicit NodesBed(BedOptions options) : options_(std::move(options)) {}
  Result<> make_lan();
  friend class BedNode;

  BedOptions options_;
  std::vector<std::string> source_;  // flags
  std::optional<TestCgroup> cgroup_;
  std::optional<PodNetns> lan_;
  std::optional<BedPod> world_;
  std::vector<std::unique_ptr<BedNode>> nodes_;
};

// A shell line in a namespace; an error has its output.
Result<> in_netns(const PodNetns& netns, const std::string& line);

}  // namespace fairlead::testkit
