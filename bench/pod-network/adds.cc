// SPDX-License-Identifier: Apache-2.0
#include "bench/pod-network/adds.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <numeric>
#include <thread>
#include <vector>

#include "agent/base/local_protocol.h"
#include "agent/netlink/socket.h"
#include "bench/lib/statistics.h"
#include "bench/pod-network/node.h"
#include "test/kit/netns.h"
#include "test/kit/process.h"

namespace fairlead::bench {
namespace {

constexpr std::size_t kOneByOne = 110;
constexpr std::size_t kAtOnce = 20;
constexpr std::size_t kRounds = 5;
constexpr const char* kReference = "/usr/lib/cni/bridge";

double ms_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count();
}

double percentile(std::vector<double> samples, double share) {
  std::ranges::sort(samples);
  return samples.empty() ? 0 : samples[static_cast<std::size_t>(share * static_cast<double>(samples.size() - 1))];
}

// A plugin as a runtime starts it.
struct Plugin {
  std::string program;
  std::string configuration;  // a file, its standard input
};

// From the start of the process to its end, in milliseconds.
Result<double> run_plugin(const Plugin& plugin, const char* command, const std::string& container,
                          const std::string& netns) {
  std::vector<std::string> variables{std::string("CNI_COMMAND=") + command,
                                     "CNI_CONTAINERID=" + container,
                                     "CNI_NETNS=" + netns,
                                     "CNI_IFNAME=eth0",
                                     "CNI_PATH=/usr/lib/cni",
                                     "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=" + container,
                                     "PATH=/usr/sbin:/usr/bin:/sbin:/bin"};
  std::vector<char*> environment;
  for (std::string& variable : variables) environment.push_back(variable.data());
  environment.push_back(nullptr);
  std::string program = plugin.program;
  char* const argv[] = {program.data(), nullptr};
  const std::string output = fmt::format("{}/{}.out", testkit::folder(), container);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, STDIN_FILENO, plugin.configuration.c_str(), O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, STDOUT_FILENO, output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  const auto begin = std::chrono::steady_clock::now();
  pid_t pid = 0;
  const int error = posix_spawn(&pid, program.c_str(), &files, nullptr, argv, environment.data());
  posix_spawn_file_actions_destroy(&files);
  if (error != 0) return fail_errno(error, "start " + program);
  int status = 0;
  if (waitpid(pid, &status, 0) != pid) return fail_errno(errno, "wait for " + program);
  const double took = ms_since(begin);
  if (status == 0) return took;
  std::ifstream said(output);
  return fail(Code::kSystem, "{} {}: {}", program, command,
              std::string(std::istreambuf_iterator<char>(said), std::istreambuf_iterator<char>()));
}

struct Pods {
  std::vector<std::string> names;
  std::vector<testkit::PodNetns> namespaces;

  static Result<Pods> make(const std::string& prefix, std::size_t count) {
    Pods pods;
    for (std::size_t i = 0; i < count; ++i) {
      pods.names.push_back(fmt::format("{}{}", prefix, i));
      FL_LET(auto netns, testkit::PodNetns::make(pods.names.back()));
      pods.namespaces.push_back(std::move(netns));
    }
    return pods;
  }
  Result<double> run(const Plugin& plugin, const char* command, std::size_t i) const {
    return run_plugin(plugin, command, names[i], namespaces[i].path());
  }
};

// Waits until the node has no devices of pods any more: they go in the background, by locks that an ADD needs too.
Result<> await_no_devices() {
  FL_LET(netlink::Socket host, netlink::Socket::open());
  const auto gone = [&] {
    const auto links = host.links();
    return links && std::ranges::none_of(*links, [](const netlink::Link& link) { return link.kind == "veth"; });
  };
  if (testkit::eventually(gone)) return {};
  return fail(Code::kTimeout, "devices of deleted pods are still there");
}

// All of `pods` one after another; they are deleted afterwards.
Result<std::vector<double>> one_by_one(const Plugin& plugin, const Pods& pods) {
  std::vector<double> samples;
  for (std::size_t i = 0; i < pods.names.size(); ++i) {
    FL_LET(const double took, pods.run(plugin, "ADD", i));
    samples.push_back(took);
  }
  for (std::size_t i = 0; i < pods.names.size(); ++i) FL_TRY(pods.run(plugin, "DEL", i));
  return samples;
}

Result<std::vector<double>> at_once(const Plugin& plugin, const Pods& pods) {
  FL_TRY(await_no_devices());
  std::vector<Result<double>> results(pods.names.size(), 0.0);
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < pods.names.size(); ++i) {
      threads.emplace_back([&, i] { results[i] = pods.run(plugin, "ADD", i); });
    }
  }
  std::vector<double> samples;
  for (std::size_t i = 0; i < results.size(); ++i) {
    FL_LET(const double took, std::move(results[i]));
    samples.push_back(took);
    FL_TRY(pods.run(plugin, "DEL", i));
  }
  return samples;
}

Result<Plugin> plugin(const std::string& name, const std::string& program, const Json& configuration) {
  Plugin out{program, fmt::format("{}/{}.conf", testkit::folder(), name)};
  std::ofstream file(out.configuration);
  file << configuration.dump() << std::flush;
  if (!file) return fail_errno(errno, "write " + out.configuration);
  return out;
}

Result<Plugin> ours() {
  return plugin(
      "ours", FAIRLEAD_CNI,
      {{"cniVersion", "1.0.0"}, {"name", "fairlead"}, {"type", "fairlead-cni"}, {"runDir", testkit::folder()}});
}

Result<Plugin> reference() {
  const Json range =
      Json::array({Json::array({{{"subnet", "10.2.0.0/22"}}}), Json::array({{{"subnet", "fd00:2::/64"}}})});
  const Json ipam{{"type", "host-local"},
                  {"ranges", range},
                  {"dataDir", testkit::folder() + "/host-local"},
                  {"routes", {{{"dst", "0.0.0.0/0"}}, {{"dst", "::/0"}}}}};
  return plugin("reference", kReference,
                {{"cniVersion", "1.0.0"},
                 {"name", "reference"},
                 {"type", "bridge"},
                 {"bridge", "ref0"},
                 {"isGateway", true},
                 {"ipam", ipam}});
}

void report_both(Report& report, const std::string& text, const std::vector<double>& mine,
                 const std::vector<double>& peers, std::optional<double> median_goal, std::optional<double> p99_goal) {
  const auto peer = [&](double value) {
    return peers.empty() ? std::map<std::string, double>()
                         : std::map<std::string, double>{{"bridge+host-local", value}};
  };
  report.add({.text = text + ", median",
              .unit = "ms",
              .us = estimate(mine),
              .goal = median_goal,
              .peers = peer(estimate(peers).median)});
  report.add({.text = text + ", p99",
              .unit = "ms",
              .us = exactly(percentile(mine, 0.99)),
              .goal = p99_goal,
              .peers = peer(percentile(peers, 0.99))});
}

// The agent's part alone: no process, no socket.
Result<> measure_agent(Node& node, const Pods& pods, Report& report) {
  std::vector<double> samples;
  for (std::size_t i = 0; i < kOneByOne; ++i) {
    const Json args{{"container", pods.names[i]}, {"ifname", "eth0"}, {"netns", pods.namespaces[i].path()}};
    const auto begin = std::chrono::steady_clock::now();
    FL_TRY(node.ask("cni.add", args));
    samples.push_back(ms_since(begin));
  }
  for (const std::string& name : pods.names) FL_TRY(node.ask("cni.del", {{"container", name}, {"ifname", "eth0"}}));
  report.add({.text = "of which the agent, median", .unit = "ms", .us = estimate(samples), .goal = 2});
  return {};
}

}  // namespace

Result<> measure_adds(Report& report) {
  FL_LET(const auto node, Node::start());
  const bool has_reference = std::filesystem::exists(kReference);
  FL_LET(const Plugin mine, ours());
  FL_LET(const Plugin peer, reference());
  // All namespaces are made before and ended after all else: the kernel holds the lock that every ADD needs for tens of
  // milliseconds while it ends some.
  FL_LET(const Pods my_pods, Pods::make("mine-", kOneByOne));
  FL_LET(const Pods peer_pods, Pods::make("peer-", has_reference ? kOneByOne : 0));
  FL_LET(const Pods agent_pods, Pods::make("agent-", kOneByOne));
  std::vector<Pods> my_rounds, peer_rounds;
  for (std::size_t round = 0; round < kRounds; ++round) {
    FL_LET(Pods of_mine, Pods::make(fmt::format("m{}-", round), kAtOnce));
    FL_LET(Pods of_peer, Pods::make(fmt::format("p{}-", round), has_reference ? kAtOnce : 0));
    my_rounds.push_back(std::move(of_mine));
    peer_rounds.push_back(std::move(of_peer));
  }

  FL_LET(auto my_samples, one_by_one(mine, my_pods));
  FL_LET(auto peer_samples, one_by_one(peer, peer_pods));
  report_both(report, "ADD, 110 one after another", my_samples, peer_samples, 10, {});
  FL_TRY(measure_agent(*node, agent_pods, report));
  my_samples.clear();
  peer_samples.clear();
  for (std::size_t round = 0; round < kRounds; ++round) {
    FL_LET(const auto my_round, at_once(mine, my_rounds[round]));
    my_samples.insert(my_samples.end(), my_round.begin(), my_round.end());
    FL_LET(const auto peer_round, at_once(peer, peer_rounds[round]));
    peer_samples.insert(peer_samples.end(), peer_round.begin(), peer_round.end());
  }
  report_both(report, "ADD, 20 at once", my_samples, peer_samples, {}, 30);
  return {};
}

}  // namespace fairlead::bench
