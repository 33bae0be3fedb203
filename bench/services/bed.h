// SPDX-License-Identifier: Apache-2.0
// Bed: namespaces of backends and of clients, with our Services for one kind of clients and kube-proxy's for others.
//
//   clients (bare, ours) ──┐                            bare: no rules of anybody's; ours: in a cgroup with our hooks
//   iptables ──────────────┼── backends: every endpoint's address, one server
//   nftables ──────────────┘
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/datapath/bpf_load_balancer.h"
#include "agent/datapath/bpf_root.h"
#include "agent/datapath/bpf_socket_clients.h"
#include "agent/datapath/sock_programs.h"
#include "bench/lib/api_client.h"
#include "bench/lib/programs.h"
#include "bench/services/worker.h"
#include "test/kit/cgroup.h"
#include "test/kit/control_plane.h"
#include "test/kit/netns.h"

namespace fairlead::bench {

// The beginning of a shell line that runs in there.
std::string inside(const testkit::PodNetns& netns);
// Its SO_NETNS_COOKIE.
std::uint64_t cookie_of(const testkit::PodNetns& netns);

// Owner and thread: the benchmark's main, in namespaces of its own (testkit::run_as_node).
class Bed {
 public:
  static Result<std::unique_ptr<Bed>> make(bool peers);

  // From now on there are `services` of them, and all of them answer, at everybody's.
  Result<> grow(std::uint32_t services);

  const Worker& bare() const { return *bare_; }
  const Worker& ours() const { return *ours_; }
  const std::map<std::string, std::unique_ptr<Worker>>& peers() const { return peers_; }

 private:
  Bed() = default;
  // A client's namespace, one hop from the backends.
  Result<> connect(const testkit::PodNetns& client, int number) const;
  Result<> load_datapath();
  Result<> start_peers();

  std::optional<testkit::PodNetns> backends_, clients_;
  std::map<std::string, testkit::PodNetns> peer_netns_;
  std::optional<testkit::TestCgroup> cgroup_;
  std::unique_ptr<Worker> server_, bare_, ours_;
  std::map<std::string, std::unique_ptr<Worker>> peers_;

  std::optional<datapath::BpfRoot> root_;
  std::unique_ptr<datapath::SockPrograms> programs_;
  std::unique_ptr<datapath::BpfSocketClients> admitted_;
  std::unique_ptr<datapath::BpfLoadBalancer> balancer_;

  std::optional<testkit::ControlPlane> plane_;
  std::unique_ptr<ApiClient> api_;
  std::vector<std::unique_ptr<KubeProxy>> proxies_;
  std::uint32_t services_ = 0;
};

}  // namespace fairlead::bench
