// SPDX-License-Identifier: Apache-2.0
// DataPath: the product's BPF programs and maps in namespaces of a test's or a benchmark's own, with pods that are real
// devices, and packets run through the programs one by one.
#pragma once

#include <linux/bpf.h>

#include <map>
#include <memory>
#include <string>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "agent/datapath/bpf_root.h"
#include "agent/datapath/pod_programs.h"
#include "agent/datapath/sock_programs.h"
#include "test/kit/packet.h"

namespace fairlead::testkit {

// A pod as the data path sees it, with a real device at the host side.
struct Pod {
  datapath::PodEndpoint endpoint;
  const IpAddress& v4() const { return endpoint.addresses[0]; }
  const IpAddress& v6() const { return endpoint.addresses[1]; }
  const IpAddress& address(Family family) const { return family == Family::kV4 ? v4() : v6(); }
  Ethernet to_host() const { return {endpoint.host_mac, endpoint.mac}; }
  Ethernet from_host() const { return {endpoint.mac, endpoint.host_mac}; }
};

// What a program made of a packet.
struct Verdict {
  int action = 0;  // TC_ACT_*
  Bytes packet;
  std::uint32_t mark = 0;  // of the packet
};

// Where a packet is when a program sees it, besides its bytes.
struct Place {
  std::uint32_t ifindex = 0;  // the device whose program it is
  std::uint32_t mark = 0;
  std::uint32_t from = 0;  // egress: the device that the packet came in by; 0: the host's own
};

// Owner and thread: the test, whose process is in namespaces of its own (enter_node_namespace).
class DataPath {
 public:
  // Its maps and programs are pinned in folder `name` of bpffs().
  static Result<std::unique_ptr<DataPath>> open(const std::string& name = "fairlead",
                                                const datapath::PodCapacities& capacities = {});

  // Pod `number` (1 … 250): 10.1.0.N and fd00:10:1::N, a device with filters, and an endpoint.
  Result<Pod> make_pod(std::uint8_t number);
  datapath::BpfPodPrograms& pods() { return *pods_; }
  // Loaded for their maps; attached nowhere.
  datapath::SockPrograms& sockets() { return *sockets_; }
  const datapath::BpfRoot& root() const { return root_; }

  // Programs of other objects over the same maps, for run().
  Result<> add_programs(const std::vector<datapath::ProgramFacts>& facts);
  // The descriptor of a program: "from_pod", "host_to_pod", and those that were added.
  int program(const std::string& name) const { return programs_.at(name).get(); }
  // Runs it on `frame`, at `pod`'s device or elsewhere.
  Result<Verdict> run(const std::string& program, const Pod& pod, const Bytes& frame) const {
    return run(program, Place{.ifindex = pod.endpoint.ifindex}, frame);
  }
  Result<Verdict> run(const std::string& program, const Place& place, const Bytes& frame) const;
  // Lets the sweep of connections look at all that were ever used (up to 4,096 of a shard), without waiting for its
  // timers; the jiffies of now.
  Result<std::uint32_t> sweep() const;

 private:
  explicit DataPath(datapath::BpfRoot root) : root_(std::move(root)) {}

  datapath::BpfRoot root_;
  std::unique_ptr<datapath::SockPrograms> sockets_;
  std::unique_ptr<datapath::BpfPodPrograms> pods_;
  std::map<std::string, UniqueFd> programs_;
};

}  // namespace fairlead::testkit
