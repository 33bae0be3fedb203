// SPDX-License-Identifier: Apache-2.0
// scripts/bench pods: what running pods costs beyond the runtime's own time, and what it costs while nothing happens.
// Method: pods are made and bound at a real API server, and a watch of them sees them bound and Running; in turn with
// as many pods made by the same containerd from nothing but CRI calls, over the same CNI plugin.
#include <cstdio>
#include <memory>
#include <thread>

#include "bench/lib/programs.h"
#include "bench/lib/report.h"
#include "bench/lib/usage.h"
#include "bench/pods/direct.h"
#include "bench/pods/kubelet.h"
#include "bench/pods/watched_pods.h"
#include "test/e2e/node_fixture.h"
#include "test/kit/control_plane.h"
#include "test/kit/netns.h"
#include "test/kit/own_node.h"

namespace fairlead::bench {
namespace {

using namespace std::chrono_literals;
using testkit::ControlPlane;

constexpr auto kImage = "localhost/fairlead/echo:demo";
const std::vector<std::string> kArgs{"serve", "--http", "8080"};
constexpr int kMany = 100;
constexpr auto kSettle = 5s;
constexpr auto kIdle = 30s;
constexpr double kMbPerMib = 1.048576;

struct Rounds {
  std::size_t single;  // pairs of one pod each
  std::size_t bursts;  // pairs of many pods
};
constexpr Rounds kRounds{21, 3};
constexpr Rounds kLonger{41, 21};
// The kubelet's figures stand beside ours without an interval.
constexpr Rounds kBesidePeers{21, 1};
constexpr Rounds kPeers{5, 1};

// Of one kubelet, ours or the real one.
struct Figures {
  std::vector<double> one_ms, one_runtime_ms, one_above_ms;
  std::vector<double> many_ms, many_runtime_ms, many_above_ms;  // the last: of each pod
  double idle_cores = 0;
  Usage idle;
};

// `count` pods by the runtime alone: milliseconds.
Result<double> run_alone(WatchedPods& pods, DirectRuntime& direct, int count) {
  FL_LET(const auto ended, pods.ended(count));
  FL_LET(const double took, direct.run(ended));
  FL_TRY(pods.remove());
  return took;
}

// `rounds` pairs of `count` pods.
Result<> measure_pairs(WatchedPods& pods, DirectRuntime& direct, std::size_t rounds, int count,
                       std::vector<double>& took, std::vector<double>& runtime, std::vector<double>& above) {
  const auto alone = [&] { return run_alone(pods, direct, count); };
  for (std::size_t i = 0; i < rounds; ++i) {
    Result<double> own = 0.0;
    if (i % 2 == 0) own = alone();
    FL_LET(const double all, pods.run(count));
    FL_TRY(pods.remove());
    if (i % 2 == 1) own = alone();
    FL_TRY(std::move(own));
    std::fprintf(stderr, "== %d pods: %.0f ms, the runtime alone %.0f ms\n", count, all, *own);
    took.push_back(all);
    runtime.push_back(*own);
    above.push_back((all - *own) / count);
  }
  return {};
}

Result<Figures> measure_node(const ControlPlane& plane, const std::string& node, const std::string& endpoint, pid_t pid,
                             const Rounds& rounds) {
  FL_LET(const auto direct, DirectRuntime::open(endpoint, "/" + testkit::node_cgroup(), kImage, kArgs));
  FL_LET(const auto pods, WatchedPods::open(plane.admin_kubeconfig(), node, kImage, kArgs));
  Figures figures;
  FL_TRY(run_alone(*pods, *direct, 1));  // warm
  FL_TRY(measure_pairs(*pods, *direct, rounds.single, 1, figures.one_ms, figures.one_runtime_ms, figures.one_above_ms));
  FL_TRY(measure_pairs(*pods, *direct, rounds.bursts, kMany, figures.many_ms, figures.many_runtime_ms,
                       figures.many_above_ms));
  FL_TRY(pods->run(kMany));
  FL_TRY(pods->wait_ready());
  std::this_thread::sleep_for(kSettle);
  FL_LET(const Usage before, usage_of(pid));
  std::this_thread::sleep_for(kIdle);
  FL_LET(figures.idle, usage_of(pid));
  figures.idle_cores = (figures.idle.cpu_seconds - before.cpu_seconds) / std::chrono::duration<double>(kIdle).count();
  FL_TRY(pods->remove());
  return figures;
}

Result<> measure(const Options& options, Report& report) {
  const auto folder = std::filesystem::path(testkit::folder());
  FL_LET(const ControlPlane plane, ControlPlane::start({.folder = folder / "plane",
                                                        .binary = FAIRLEAD_GO_BIN "/k8s",
                                                        .address = testkit::kNodeV4,
                                                        .nodes = {"node", Kubelet::kNode},
                                                        .without = {"ServiceAccount"}}));
  const auto role = plane.kubectl("apply -f " FAIRLEAD_SOURCE "/deploy/node-role.yaml");
  if (role.code != 0) return fail(Code::kSystem, "{}", role.output);

  Figures ours;
  {
    FL_LET(const auto node,
           e2e::Node::make("pods", FAIRLEAD_GO_BIN,
                           {"--kubeconfig", plane.node_kubeconfig("node"), "--pod-cidr", "10.244.0.0/23"}));
    FL_TRY(node->start_agent());
    const Rounds& rounds = options.longer ? kLonger : options.peers ? kBesidePeers : kRounds;
    FL_LET(ours, measure_node(plane, "node", "unix://" + node->runtime_socket(), node->agent_pid(), rounds));
  }
  std::map<std::string, double> one, one_above, many, many_above, cores, memory;
  if (options.peers) {
    FL_LET(const auto kubelet, Kubelet::start(folder / "kubelet", FAIRLEAD_GO_BIN, plane));
    FL_LET(const Figures theirs,
           measure_node(plane, Kubelet::kNode, kubelet->endpoint(), kubelet->pid(), options.longer ? kRounds : kPeers));
    one["kubelet"] = estimate(theirs.one_ms).median;
    one_above["kubelet"] = estimate(theirs.one_above_ms).median;
    many["kubelet"] = estimate(theirs.many_ms).median;
    many_above["kubelet"] = estimate(theirs.many_above_ms).median;
    cores["kubelet"] = theirs.idle_cores;
    memory["kubelet"] = theirs.idle.memory_mib * kMbPerMib;
  }
  report.add({.text = "one pod, from bound to Running", .unit = "ms", .us = estimate(ours.one_ms), .peers = one});
  report.add({.text = "one pod, the runtime alone", .unit = "ms", .us = estimate(ours.one_runtime_ms)});
  report.add({.text = "one pod, above the runtime",
              .unit = "ms",
              .us = estimate(ours.one_above_ms),
              .goal = 10,
              .peers = one_above});
  report.add({.text = "100 pods at once, from the first bound to the last Running",
              .unit = "ms",
              .us = estimate(ours.many_ms),
              .peers = many});
  report.add({.text = "100 pods at once, the runtime alone", .unit = "ms", .us = estimate(ours.many_runtime_ms)});
  report.add({.text = "100 pods at once, above the runtime, for each pod",
              .unit = "ms",
              .us = estimate(ours.many_above_ms),
              .goal = 10,
              .peers = many_above});
  report.add({.text = "idle with 100 pods probed each second: processor",
              .unit = "cores",
              .us = exactly(ours.idle_cores),
              .goal = 0.03,
              .peers = cores});
  report.add({.text = "idle with 100 pods probed each second: memory",
              .unit = "MB",
              .us = exactly(ours.idle.memory_mib * kMbPerMib),
              .goal = 60,
              .peers = memory});
  return {};
}

}  // namespace
}  // namespace fairlead::bench

int main(int argc, char** argv) {
  return fairlead::testkit::run_as_node(
      [&] { return fairlead::bench::run(argc, argv, "pods", fairlead::bench::measure); });
}
