// SPDX-License-Identifier: Apache-2.0
// Clients and a server of the benchmark, each a process of its own: where it is decides by whose rules its connections
// go.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"

namespace fairlead::bench {

// What a client does: connections to one Service after the other, spread over all of them.
struct Job {
  bool by_cluster_ip = false;  // else to the Service's endpoint itself
  bool open = false;           // round trips on one open connection; else a connection for each round trip
  std::uint32_t services = 1;  // of a LargeCluster with one endpoint each
  std::uint32_t count = 0;
  std::chrono::milliseconds patience = std::chrono::seconds(5);  // with each step of a connection
};

// Owner: the benchmark's main; make it before threads. The process ends with this object, or with the benchmark.
class Worker {
 public:
  // A client in the network namespace at `netns`, in cgroup `cgroup` (empty: the benchmark's own).
  static Result<std::unique_ptr<Worker>> client(const std::string& netns, const std::string& cgroup);
  // Whoever connects to the endpoints' port in `netns` gets back what it sends.
  static Result<std::unique_ptr<Worker>> server(const std::string& netns);
  ~Worker();

  // Microseconds for one round trip, with its connection or without. An error where a connection is refused or nobody
  // answers in time.
  Result<double> run(const Job& job) const;

 private:
  Worker(pid_t pid, UniqueFd control) : pid_(pid), control_(std::move(control)) {}
  pid_t pid_;
  UniqueFd control_;
};

}  // namespace fairlead::bench
