// SPDX-License-Identifier: Apache-2.0
#include "bench/lib/programs.h"

#include <utility>

#include "test/kit/netns.h"
#include "test/kit/own_node.h"

namespace fairlead::bench {
namespace {

using testkit::run_command;

constexpr auto kMetrics = "127.0.0.1:10249";
constexpr auto kHealth = "127.0.0.1:10256";

}  // namespace

Result<> must(const std::string& shell_line) {
  const auto ran = run_command(shell_line);
  if (ran.code != 0) return fail(Code::kSystem, "{}: {}", shell_line, ran.output);
  return {};
}

Result<> add_node_object(const testkit::ControlPlane& plane) {
  const auto made = plane.send("POST", "/api/v1/nodes", {"Content-Type: application/json"},
                               R"({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node"}})");
  const auto addressed = plane.send(
      "PATCH", "/api/v1/nodes/node/status", {"Content-Type: application/merge-patch+json"},
      fmt::format(R"({{"status": {{"addresses": [{{"type": "InternalIP", "address": "{}"}}]}}}})", testkit::kNodeV4));
  if (addressed.status != 200) return fail(Code::kSystem, "Node object: {} {}", made.body, addressed.body);
  return {};
}

Program::Program(std::filesystem::path folder) : folder_(std::move(folder)) {
  std::filesystem::create_directories(folder_);
}

std::string Program::log() const {
  return run_command("tail -n 5 " + (folder_ / "log").string()).output;
}

AgentProgram::AgentProgram(std::filesystem::path folder, std::vector<std::string> flags)
    : Program(std::move(folder)), flags_(std::move(flags)) {}

std::vector<std::string> AgentProgram::command(const std::string& verb) const {
  // clang-format off
  std::vector<std::string> words{
      FAIRLEAD_BIN "/fairlead-agent", verb, "--node-name", "node",
      "--node-ip", fmt::format("{},{}", testkit::kNodeV4, testkit::kNodeV6),
      "--bpf-root", testkit::bpffs() + "/" + folder_.filename().string(),
      "--cgroup-root", fmt::format("{}/{}", testkit::kCgroup2, testkit::node_cgroup()),
      "--state-dir", folder_ / "state", "--run-dir", folder_ / "run",
      "--cni-bin-dir", folder_ / "cni-bin", "--cni-conf-dir", folder_ / "cni-conf",
      "--metrics-bind-address", kMetrics, "--healthz-bind-address", kHealth};
  // clang-format on
  words.insert(words.end(), flags_.begin(), flags_.end());
  return words;
}

Result<> AgentProgram::start() {
  FL_LET(process_, testkit::Process::start(command("run"), folder_ / "log"));
  return {};
}

Result<> AgentProgram::stop() {
  process_.stop();
  std::string line;
  for (const std::string& word : command("cleanup")) line += word + " ";
  return must(line);
}

KubeProxy::KubeProxy(std::filesystem::path folder, std::filesystem::path kubeconfig, std::string mode,
                     std::string netns)
    : Program(std::move(folder)),
      kubeconfig_(std::move(kubeconfig)),
      mode_(std::move(mode)),
      enter_(netns.empty() ? "" : "nsenter --net=" + netns) {}

Result<> KubeProxy::start() {
  const std::string command = fmt::format(
      "exec {} {}/peers kube-proxy --kubeconfig {} --proxy-mode {} --hostname-override node --metrics-bind-address {} "
      "--healthz-bind-address {} --conntrack-max-per-core 0 --conntrack-tcp-timeout-established 0 "
      "--conntrack-tcp-timeout-close-wait 0",
      enter_, FAIRLEAD_GO_BIN, kubeconfig_.string(), mode_, kMetrics, kHealth);
  FL_LET(process_, testkit::Process::start({"sh", "-c", command}, folder_ / "log"));
  return {};
}

Result<> KubeProxy::stop() {
  process_.stop();
  return must(fmt::format("{} nft flush ruleset", enter_));
}

}  // namespace fairlead::bench
