// SPDX-License-Identifier: Apache-2.0
// DirectRuntime: pods by nothing but the calls of CRI that every pod takes, for what the runtime itself costs.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "agent/base/loop_thread.h"
#include "agent/base/result.h"
#include "agent/cri/client.h"

namespace fairlead::bench {

// Owner and thread: the benchmark's main, which waits; one thread of its own.
class DirectRuntime {
 public:
  // `endpoint`: the runtime's socket. `cgroup`: under which its pods are.
  static Result<std::unique_ptr<DirectRuntime>> open(const std::string& endpoint, const std::string& cgroup,
                                                     const std::string& image, const std::vector<std::string>& args);
  ~DirectRuntime();

  // Milliseconds until `count` pods of one container run, all asked for at once. They are gone when it returns.
  Result<double> run(int count);

 private:
  DirectRuntime() = default;
  // From the sandbox to the started container; the sandbox's id.
  void start(const std::string& name, std::function<void(Result<std::string>)> done);
  // `each` for `count` pods at once; their results, or the first error.
  Result<std::vector<std::string>> all(int count,
                                       const std::function<void(int, std::function<void(Result<std::string>)>)>& each);

  LoopThread thread_{"direct"};
  std::unique_ptr<cri::Client> client_;
  std::string cgroup_, image_;
  std::vector<std::string> args_;
  unsigned rounds_ = 0;
};

}  // namespace fairlead::bench
