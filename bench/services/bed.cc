// SPDX-License-Identifier: Apache-2.0
#include "bench/services/bed.h"

#include <sys/socket.h>

#include <cstdio>

#include "bench/lib/large_cluster.h"
#include "test/kit/own_node.h"

namespace fairlead::bench {
namespace {

using namespace std::chrono_literals;

const std::vector<std::string> kModes{"iptables", "nftables"};
constexpr auto kNotYet = 200ms;        // without an answer: a Service that is not served is asked again
constexpr std::uint32_t kAsked = 200;  // Services that have to answer before all of them are taken for served

}  // namespace

std::string inside(const testkit::PodNetns& netns) {
  return "nsenter --net=" + netns.path();
}

std::uint64_t cookie_of(const testkit::PodNetns& netns) {
  std::uint64_t cookie = 0;
  netns.run([&] {
    const UniqueFd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    socklen_t size = sizeof(cookie);
    getsockopt(fd.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size);
  });
  return cookie;
}

Result<std::unique_ptr<Bed>> Bed::make(bool peers) {
  std::unique_ptr<Bed> bed(new Bed);
  const auto make_netns = [](std::optional<testkit::PodNetns>& netns, const char* name) -> Result<> {
    FL_LET(auto made, testkit::PodNetns::make(name));
    netns.emplace(std::move(made));
    return {};
  };
  FL_TRY(make_netns(bed->backends_, "backends"));
  FL_TRY(make_netns(bed->clients_, "clients"));
  FL_TRY(must(fmt::format("{0} ip link set lo up && {0} ip route add local {1} dev lo", inside(*bed->backends_),
                          LargeCluster::kEndpointCidr)));
  FL_TRY(bed->connect(*bed->clients_, 1));
  const std::string node = fmt::format("{}/{}", testkit::kCgroup2, testkit::node_cgroup());
  FL_LET(auto cgroup, testkit::TestCgroup::make(node, "bench-services"));
  bed->cgroup_.emplace(std::move(cgroup));
  int number = 2;
  for (const std::string& mode : peers ? kModes : std::vector<std::string>()) {
    FL_LET(auto netns, testkit::PodNetns::make(mode));
    FL_TRY(bed->connect(netns, number++));
    bed->peer_netns_.emplace(mode, std::move(netns));
  }
  // Processes before threads.
  FL_LET(bed->server_, Worker::server(bed->backends_->path()));
  FL_LET(bed->bare_, Worker::client(bed->clients_->path(), ""));
  FL_LET(bed->ours_, Worker::client(bed->clients_->path(), bed->cgroup_->path()));
  for (const auto& [mode, netns] : bed->peer_netns_) {
    FL_LET(bed->peers_["kube-proxy " + mode], Worker::client(netns.path(), ""));
  }
  FL_TRY(bed->load_datapath());
  if (peers) FL_TRY(bed->start_peers());
  return bed;
}

// ClusterIPs are routed there, too: whoever translates after the source address was chosen needs one that answers
// reach.
Result<> Bed::connect(const testkit::PodNetns& client, int number) const {
  return must(fmt::format(
      "ip link add c{2} type veth peer name b{2} && ip link set c{2} netns {4} && ip link set b{2} netns {5} && "
      "{0} ip link set lo up && {0} ip addr add 10.210.{2}.2/30 dev c{2} && {0} ip link set c{2} up && "
      "{1} ip addr add 10.210.{2}.1/30 dev b{2} && {1} ip link set b{2} up && "
      "{0} ip route add {3} via 10.210.{2}.1 && {0} ip route add {6} via 10.210.{2}.1",
      inside(client), inside(*backends_), number, LargeCluster::kEndpointCidr, client.path(), backends_->path(),
      LargeCluster::kServiceCidr));
}

Result<> Bed::load_datapath() {
  FL_LET(auto root, datapath::BpfRoot::open(testkit::bpffs() + "/services"));
  root_.emplace(std::move(root));
  FL_LET(programs_, datapath::SockPrograms::load(*root_, {}));
  FL_TRY(programs_->attach(cgroup_->path()));
  FL_LET(balancer_, datapath::BpfLoadBalancer::open(*programs_));
  FL_LET(admitted_, datapath::BpfSocketClients::open(*programs_));
  return admitted_->admit(cookie_of(*clients_), {IpAddress::parse("10.210.1.2").value()});
}

Result<> Bed::start_peers() {
  const auto folder = std::filesystem::path(testkit::folder());
  FL_LET(auto plane, testkit::ControlPlane::start({.folder = folder / "plane",
                                                   .binary = FAIRLEAD_GO_BIN "/k8s",
                                                   .service_cidr = LargeCluster::kServiceCidr,
                                                   .address = testkit::kNodeV4,
                                                   .nodes = {}}));
  plane_.emplace(std::move(plane));
  FL_TRY(add_node_object(*plane_));
  FL_LET(api_, ApiClient::open(plane_->admin_kubeconfig()));
  int number = 1;
  for (const auto& [mode, netns] : peer_netns_) {
    // To the API server, and out, for what is not translated yet.
    FL_TRY(must(
        fmt::format("ip link add m{1} type veth peer name p{1} && ip link set p{1} netns {2} && ip addr add "
                    "10.211.{1}.1/30 dev m{1} && "
                    "ip link set m{1} up && {0} ip addr add 10.211.{1}.2/30 dev p{1} && {0} ip link set p{1} up && "
                    "{0} ip route add default via 10.211.{1}.1",
                    inside(netns), number, netns.path())));
    ++number;
    proxies_.push_back(std::make_unique<KubeProxy>(folder / mode, plane_->admin_kubeconfig(), mode, netns.path()));
    FL_TRY(proxies_.back()->start());
  }
  return {};
}

Result<> Bed::grow(std::uint32_t services) {
  const LargeCluster cluster{.services = services, .endpoints = 1};
  for (std::uint32_t i = services_; i < services; ++i) {
    const datapath::ServiceEntry entry{
        .frontends = {{LargeCluster::cluster_ip(i), LargeCluster::kPort, Protocol::kTcp}},
        .backends = {{cluster.endpoint(i, 0), LargeCluster::kTargetPort}}};
    FL_TRY(balancer_->apply(std::to_string(i), entry));
  }
  const Job every{.by_cluster_ip = true, .services = services, .count = kAsked};
  FL_TRY(ours_->run(every));
  if (api_) {
    std::fprintf(stderr, "== writing %u Services for kube-proxy\n", services - services_);
    FL_TRY(cluster.load(*api_, services_));
  }
  services_ = services;
  for (const auto& [name, worker] : peers_) {
    const Job last{.by_cluster_ip = true, .open = true, .services = services, .count = 1, .patience = kNotYet};
    Job some = every;
    some.patience = kNotYet;
    const bool served =
        testkit::eventually([&] { return worker->run(last).has_value() && worker->run(some).has_value(); }, 600s);
    if (!served) return fail(Code::kTimeout, "{} does not serve {} Services", name, services);
  }
  return {};
}

}  // namespace fairlead::bench
