// SPDX-License-Identifier: Apache-2.0
// scripts/bench sync: how soon Services are what the API server says. Method: a real API server holds the Services of a
// large cluster; the program under test runs in the benchmark's namespaces, where every endpoint's address is local,
// and the benchmark itself connects to ClusterIPs until the right endpoint answers.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <numeric>
#include <thread>

#include "bench/lib/api_client.h"
#include "bench/lib/endpoints.h"
#include "bench/lib/large_cluster.h"
#include "bench/lib/programs.h"
#include "bench/lib/report.h"
#include "bench/lib/usage.h"
#include "test/kit/control_plane.h"
#include "test/kit/netns.h"
#include "test/kit/own_node.h"

namespace fairlead::bench {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using testkit::ControlPlane;

constexpr std::uint32_t kChanging = 20;  // Services whose slices change
constexpr auto kOneTry = 20ms;           // to connect: everything is on one machine
constexpr auto kOnePoll = 200us;         // between two tries
constexpr auto kPatience = 120s;         // with a program that does not come to its end

// How much of each program is measured.
struct Amount {
  std::size_t starts;
  std::uint32_t changes;
  std::chrono::milliseconds between_changes;
};
constexpr Amount kOurs{.starts = 11, .changes = 1000, .between_changes = 2ms};
constexpr Amount kPeers{.starts = 3, .changes = 15, .between_changes = 1200ms};  // it syncs once a second

class Bench {
 public:
  static Result<std::unique_ptr<Bench>> make() {
    std::unique_ptr<Bench> bench(new Bench);
    const auto folder = std::filesystem::path(testkit::folder());
    FL_LET(auto plane, ControlPlane::start({.folder = folder / "plane",
                                            .binary = FAIRLEAD_GO_BIN "/k8s",
                                            .service_cidr = LargeCluster::kServiceCidr,
                                            .address = testkit::kNodeV4,
                                            .nodes = {"node"}}));
    bench->plane_ = std::make_unique<ControlPlane>(std::move(plane));
    const auto role = bench->plane_->kubectl("apply -f " FAIRLEAD_SOURCE "/deploy/node-role.yaml");
    if (role.code != 0) return fail(Code::kSystem, "{}", role.output);
    FL_TRY(add_node_object(*bench->plane_));
    FL_LET(bench->api_, ApiClient::open(bench->plane_->admin_kubeconfig()));
    FL_TRY(must(fmt::format("ip route add local {} dev lo", LargeCluster::kEndpointCidr)));
    FL_LET(bench->endpoints_, Endpoints::serve(LargeCluster::kTargetPort));
    const Moment begin = Clock::now();
    FL_TRY(bench->cluster_.load(*bench->api_));
    std::fprintf(stderr, "== %u Services and slices written in %.0f s\n", bench->cluster_.services,
                 ms_between(begin, Clock::now()) / 1000);
    return bench;
  }

  const ControlPlane& plane() const { return *plane_; }

  struct Figures {
    std::vector<double> start_s;  // less a download
    std::vector<double> change_ms;
    Usage usage;
  };
  Result<Figures> measure(Program& program, const Amount& amount) {
    Figures figures;
    for (std::size_t i = 0; i < amount.starts; ++i) {
      const bool download_first = i % 2 == 0;
      Result<double> downloaded = download_first ? download() : 0.0;
      FL_LET(const double took, start(program));
      if (!download_first) downloaded = download();
      FL_TRY(std::move(downloaded));
      std::fprintf(stderr, "== %s: start %.2f s, download %.2f s\n", program.name().c_str(), took, *downloaded);
      figures.start_s.push_back(took - *downloaded);
      if (i + 1 < amount.starts) FL_TRY(program.stop());
    }
    FL_LET(figures.change_ms, change(amount));
    FL_LET(figures.usage, usage_of(program.pid()));
    FL_TRY(program.stop());
    return figures;
  }

 private:
  Bench() = default;

  // Seconds that the lists take without anybody who understands them.
  Result<double> download() const {
    const std::string line = fmt::format(
        "curl --silent --fail --parallel --cacert {} -H 'Authorization: Bearer admin-token' "
        "-H 'Accept: application/vnd.kubernetes.protobuf' {}/api/v1/services -o /dev/null "
        "{}/apis/discovery.k8s.io/v1/endpointslices -o /dev/null",
        plane_->ca_file().string(), plane_->url(), plane_->url());
    const Moment begin = Clock::now();
    FL_TRY(must(line));
    return ms_between(begin, Clock::now()) / 1000;
  }

  // Seconds from the process's start until every Service has answered.
  Result<double> start(Program& program) const {
    std::vector<std::uint32_t> silent(cluster_.services);
    std::iota(silent.begin(), silent.end(), 0U);
    const Moment begin = Clock::now();
    FL_TRY(program.start());
    while (!silent.empty()) {
      if (who_answers(LargeCluster::cluster_ip(silent.back()), LargeCluster::kPort, kOneTry)) {
        silent.pop_back();
        continue;
      }
      if (Clock::now() - begin > kPatience) {
        return fail(Code::kTimeout, "{}: {} Services do not answer: {}", program.name(), silent.size(), program.log());
      }
      std::rotate(silent.begin(), silent.begin() + static_cast<std::ptrdiff_t>(silent.size() / 2), silent.end());
      std::this_thread::sleep_for(kOnePoll);
    }
    return ms_between(begin, Clock::now()) / 1000;
  }

  // Milliseconds from a slice's write answered until its Service leads where it says.
  Result<std::vector<double>> change(const Amount& amount) {
    std::vector<double> took;
    for (std::uint32_t i = 0; i < kChanging + amount.changes; ++i) {
      const std::uint32_t service = i % kChanging * (cluster_.services / kChanging);
      const std::uint32_t ready = i / kChanging % 2;
      const k8s::EndpointSlice slice = cluster_.slice(service, ready);
      FL_LET(const auto written,
             api_->send(write_request("PUT", fmt::format("{}/{}", LargeCluster::kSlices, slice.metadata().name()),
                                      "discovery.k8s.io/v1", "EndpointSlice", slice)));
      const IpAddress wanted = cluster_.endpoint(service, ready);
      while (who_answers(LargeCluster::cluster_ip(service), LargeCluster::kPort, kOneTry) != wanted) {
        if (Clock::now() - written.at > kPatience)
          return fail(Code::kTimeout, "a changed slice does not come into force");
        std::this_thread::sleep_for(kOnePoll);
      }
      // The first change of each leaves one of many endpoints, which may have answered before.
      if (i >= kChanging) took.push_back(std::max(0.0, ms_between(written.at, Clock::now())));
      std::this_thread::sleep_for(i < kChanging ? 0ms : amount.between_changes);
    }
    return took;
  }

  LargeCluster cluster_;
  std::unique_ptr<ControlPlane> plane_;
  std::unique_ptr<ApiClient> api_;
  std::unique_ptr<Endpoints> endpoints_;
};

Result<> measure(const Options& options, Report& report) {
  FL_LET(const auto bench, Bench::make());
  const auto folder = std::filesystem::path(testkit::folder());
  AgentProgram agent(folder / "agent", {"--mode", "dataplane", "--pod-cidr", "10.244.0.0/24", "--kubeconfig",
                                        bench->plane().node_kubeconfig("node")});
  FL_LET(const Bench::Figures ours, bench->measure(agent, kOurs));
  std::map<std::string, double> start, half, most, memory, peak;
  if (options.peers) {
    KubeProxy proxy(folder / "kube-proxy", bench->plane().admin_kubeconfig(), "nftables");
    // The way out for what is not translated yet.
    FL_TRY(
        must(fmt::format("ip link add uplink type veth peer name world && ip link set uplink up && "
                         "ip link set world up && ip route add default dev uplink src {}",
                         testkit::kNodeV4)));
    FL_LET(const Bench::Figures theirs, bench->measure(proxy, kPeers));
    start[proxy.name()] = estimate(theirs.start_s).median;
    half[proxy.name()] = estimate(theirs.change_ms).median;
    most[proxy.name()] = quantile(theirs.change_ms, 0.99).median;
    memory[proxy.name()] = theirs.usage.memory_mib;
    peak[proxy.name()] = theirs.usage.peak_mib;
  }
  report.add({.text = "start to the last of 10,000 Services × 25 answering, less a download",
              .unit = "s",
              .us = estimate(ours.start_s),
              .goal = 2,
              .peers = start});
  report.add({.text = "one slice, from API write answered to in force: median",
              .unit = "ms",
              .us = estimate(ours.change_ms),
              .peers = half});
  report.add({.text = "one slice, from API write answered to in force: 99 %",
              .unit = "ms",
              .us = quantile(ours.change_ms, 0.99),
              .goal = 5,
              .peers = most});
  report.add({.text = "memory, all in force",
              .unit = "MiB",
              .us = exactly(ours.usage.memory_mib),
              .goal = 150,
              .peers = memory});
  report.add({.text = "memory, at most", .unit = "MiB", .us = exactly(ours.usage.peak_mib), .peers = peak});
  return {};
}

}  // namespace
}  // namespace fairlead::bench

int main(int argc, char** argv) {
  return fairlead::testkit::run_as_node(
      [&] { return fairlead::bench::run(argc, argv, "sync", fairlead::bench::measure); });
}
