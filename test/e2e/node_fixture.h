// SPDX-License-Identifier: Apache-2.0
// A whole node for tests: containerd, the agent's own program and a folder of manifests, in namespaces and a cgroup of
// the test's process.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/base/local_protocol.h"
#include "agent/base/result.h"
#include "test/kit/containerd.h"
#include "test/kit/own_node.h"
#include "test/kit/process.h"

namespace fairlead::e2e {

using testkit::kNodeV4;
using testkit::kNodeV6;
inline constexpr auto kPodsV4 = "10.244.7.0/24";
inline constexpr auto kPodsV6 = "fd00:10:244:7::/64";

// Who answered how often; "failed" is a name as well.
using Answers = std::map<std::string, int>;
Answers answers(const std::string& echo_get_output);

// A load that runs in a pod's container until it is ended.
class PodLoad {
 public:
  PodLoad(testkit::Process process, std::filesystem::path log, std::function<void()> enough)
      : process_(std::move(process)), log_(std::move(log)), enough_(std::move(enough)) {}
  // Returns once the load has gone on for `seconds` more.
  bool goes_on(int seconds) const;
  // Ends it. What fl-echo load reported; null when it did not.
  Json end();

 private:
  int seconds() const;
  testkit::Process process_;
  std::filesystem::path log_;
  std::function<void()> enough_;
};

// Owner: the test suite; inside run_as_node. Made with everything up but the agent. The destructor ends the agent, the
// pods and containerd, and removes its files.
class Node {
 public:
  // `containerd`: folder with another containerd; empty: the one on PATH. `source`: the agent's flags for where objects
  // come from; empty: a folder of manifests.
  static Result<std::unique_ptr<Node>> make(const std::string& name, const std::filesystem::path& containerd,
                                            std::vector<std::string> source = {});
  ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  // Starts the agent; returns when its status says that it is synced.
  Result<> start_agent();
  Result<> launch_agent();   // the same without waiting
  bool agent_ready() const;  // all is synced, as fairleadctl status says
  // Where the agent, from its next start on, finds the runtime; else it is containerd's own socket.
  void reach_runtime_at(const std::string& endpoint) { runtime_endpoint_ = endpoint; }
  void kill_agent() { agent_.kill(); }
  int stop_agent() { return agent_.stop(); }
  bool agent_runs() { return agent_.running(); }
  pid_t agent_pid() const { return agent_.pid(); }
  // A command of the agent's program with the agent's flags, to its end.
  testkit::CommandResult agent_does(const std::string& command) const;
  std::string agent_log() const;                     // its last lines
  bool agent_logged(const std::string& text) const;  // ever

  // Manifests; a file comes and changes by a rename.
  void apply(const std::string& file, const std::string& text) const;
  void withdraw(const std::string& file) const;
  void withdraw_all() const;

  // fairleadctl's answer to COMMAND as JSON, whatever its exit status is; null when there is none.
  Json ctl(const std::string& command) const;
  Json pod(const std::string& name) const;  // its row of `pod list`; null: there is none
  std::string pod_text(const std::string& name, const std::string& field) const;  // empty: no pod or no such text
  bool pod_is(const std::string& name, const std::string& status, const std::string& ready) const;
  // Addresses of a Service's backends in `state` on one of its ports, v4 only.
  std::set<std::string> backends(const std::string& service, const std::string& state = "active") const;
  // What `status` says of refused objects named `name`: "FIELD: REASON" each.
  std::vector<std::string> refused(const std::string& name) const;

  // The daemon alone; its containers and shims stay.
  void kill_containerd() { containerd().kill_daemon(); }
  Result<> start_containerd();
  std::string runtime_socket() const { return folder_ / "containerd" / "containerd.sock"; }
  testkit::CommandResult ctr(const std::string& args) const { return containerd().ctr(args); }
  // What containerd has: ids of containers (without sandboxes) of a pod, running ones or all; every id there is.
  std::set<std::string> containers(const std::string& pod, bool running = true) const;
  std::set<std::string> all_containers() const;
  std::string tasks() const;
  std::ptrdiff_t running_tasks() const;
  std::string sandbox(const std::string& pod) const;  // its running one's id
  void kill_task(const std::string& id) const;

  // A shell line in a pod's only running container; `line` holds no single quotes.
  testkit::CommandResult in_pod(const std::string& pod, const std::string& line) const;
  // `fl-echo get` from a pod, or from the node where `pod` is empty.
  Answers get(const std::string& pod, const std::string& url, int requests) const;
  // New connections, and 20 that are kept, each with `kept_rate` requests a second.
  Result<PodLoad> load(const std::string& pod, const std::string& url, int new_connections_per_second,
                       int kept_rate = 20);

  // Whatever of pods is left: devices, endpoints, cgroups, containers, namespaces, folders. Empty: nothing.
  std::string leftovers() const;
  std::string leftovers_but_containers() const;
  // The pinned maps and links, by name.
  std::set<std::string> pins() const;
  // A URL of the agent itself: what it serves, or an error in words.
  static std::string fetch(const std::string& url);
  const std::filesystem::path& folder() const { return folder_; }

 private:
  Node(std::filesystem::path folder, std::filesystem::path containerd, std::vector<std::string> source)
      : folder_(std::move(folder)), containerd_bin_(std::move(containerd)), source_(std::move(source)) {}
  const testkit::Containerd& containerd() const { return daemons_.back(); }
  std::vector<std::string> agent_command(const std::string& command) const;

  const std::filesystem::path folder_;
  const std::filesystem::path containerd_bin_;
  const std::vector<std::string> source_;
  std::vector<testkit::Containerd> daemons_;  // one for each start, all of one folder; the last one runs
  std::string runtime_endpoint_;
  testkit::Process agent_;
};

}  // namespace fairlead::e2e
