// SPDX-License-Identifier: Apache-2.0
// What our pods' network is measured against: pairs of namespaces that the least there is joins.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "agent/base/ip.h"
#include "agent/base/result.h"
#include "test/kit/netns.h"
#include "test/netns/nodes_bed.h"

namespace fairlead::bench {

// Two ends that reach each other by IPv4. Owner: the benchmark; all of it ends with this object.
class Joined {
 public:
  // Two pods of one node, with veth pairs like ours, and nothing but a program of one bpf_redirect_peer() between them.
  static Result<Joined> by_redirect_peer(unsigned mtu);
  // A pod each on two nodes at the bed's network that have the kernel's own VXLAN device and plain routes.
  static Result<Joined> by_kernel_vxlan(const testkit::NodesBed& bed, unsigned mtu);
  Joined(Joined&&) noexcept;
  ~Joined();

  const testkit::PodNetns& client() const { return ends_.at(0); }
  const testkit::PodNetns& server() const { return ends_.at(1); }
  const IpAddress& address() const { return address_; }  // of the server

 private:
  struct Programs;
  Joined();
  IpAddress address_;
  std::vector<testkit::PodNetns> nodes_;
  std::vector<testkit::PodNetns> ends_;
  std::unique_ptr<Programs> programs_;
};

}  // namespace fairlead::bench
