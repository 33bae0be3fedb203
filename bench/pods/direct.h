// SPDX-License-Identifier: Apache-2.0
// DirectRuntime: pods by nothing but the calls of CRI that every pod takes, for what the runtime itself costs.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "agent/base/loop_thread.h"
#include "agent/base/result.h"
#include "agent/cri/client.h"
#include "bench/pods/watched_pods.h"

namespace fairlead::bench {

// Owner and thread: the benchmark's main, which waits; one thread of its own.
class DirectRuntime {
 public:
  // `endpoint`: the runtime's socket. `cgroup`: under which its pods are.
  static Result<std::unique_ptr<DirectRuntime>> open(const std::string& endpoint, const std::string& cgroup,
                                                     const std::string& image, const std::vector<std::string>& args);
  ~DirectRuntime();

  using Pod = WatchedPods::Identity;
  // Milliseconds until these pods of one container run, all asked for at once. They are gone when it returns.
  Result<double> run(const std::vector<Pod>& pods);

 private:
  DirectRuntime() = default;
  // From the sandbox to the started container; the sandbox's id.
  void start(const Pod& pod, std::function<void(Result<std::string>)> done);
  // `each` for `count` pods at once; their results, or the first error.
  using Each = std::function<void(std::size_t, std::function<void(Result<std::string>)>)>;
  Result<std::vector<std::string>> all(std::size_t count, const Each& each);

  LoopThread thread_{"direct"};
  std::unique_ptr<cri::Client> client_;
  std::string cgroup_, image_;
  std::vector<std::string> args_;
};

}  // namespace fairlead::bench
