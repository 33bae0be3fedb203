// SPDX-License-Identifier: Apache-2.0
// The programs that benchmarks measure: ours, and who does the same elsewhere. All of them run in the benchmark's own
// namespaces (testkit::run_as_node).
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "test/kit/control_plane.h"
#include "test/kit/process.h"

namespace fairlead::bench {

// A program that can be started again and again, each time on a node without traces of it.
class Program {
 public:
  virtual ~Program() = default;
  virtual std::string name() const = 0;
  // Returns as soon as the process is there.
  virtual Result<> start() = 0;
  // Ends it, with what it left in the kernel.
  virtual Result<> stop() = 0;
  pid_t pid() const { return process_.pid(); }
  // Its last words.
  std::string log() const;

 protected:
  explicit Program(std::filesystem::path folder);
  std::filesystem::path folder_;
  testkit::Process process_;
};

// The agent, with flags for where objects come from and what it does.
class AgentProgram final : public Program {
 public:
  AgentProgram(std::filesystem::path folder, std::vector<std::string> flags);
  std::string name() const override { return "fairlead"; }
  Result<> start() override;
  Result<> stop() override;

 private:
  std::vector<std::string> command(const std::string& verb) const;
  std::vector<std::string> flags_;
};

// kube-proxy in mode "iptables" or "nftables". What it sends to a ClusterIP has to have a way out of its namespace
// until it is translated. Translates without masquerade, as for pods.
class KubeProxy final : public Program {
 public:
  // `netns`: path of the namespace that it runs in; empty: the benchmark's.
  KubeProxy(std::filesystem::path folder, std::filesystem::path kubeconfig, std::string mode, std::string netns = {});
  std::string name() const override { return "kube-proxy " + mode_; }
  Result<> start() override;
  Result<> stop() override;

 private:
  std::filesystem::path kubeconfig_;
  std::string mode_;
  std::string enter_;  // what a command begins with
};

// A Node object "node" with this node's address, for programs that look for it.
Result<> add_node_object(const testkit::ControlPlane& plane);

// Runs a command that has to succeed.
Result<> must(const std::string& shell_line);

}  // namespace fairlead::bench
