// SPDX-License-Identifier: Apache-2.0
// Namespaces of a test: its process becomes a node of its own, with pods in further network namespaces.
#pragma once

#include <functional>
#include <string>
#include <utility>

#include "agent/base/result.h"

namespace fairlead::testkit {

// Moves the calling thread (and the threads that it starts) into new network and mount namespaces: loopback up, a
// tmpfs at `folder()` with a bpffs at `bpffs()`. Call once, before threads start. All of it ends with the process.
Result<> enter_node_namespace(const std::string& name);
std::string folder();
std::string bpffs();

// A network namespace with a path, as a container runtime makes it; its loopback is down. Ends with this object, and
// with it the devices inside.
class PodNetns {
 public:
  static Result<PodNetns> make(const std::string& name);
  PodNetns(PodNetns&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  PodNetns& operator=(PodNetns&&) = delete;
  ~PodNetns();

  const std::string& path() const { return path_; }
  // Runs `task` on a thread that lives in there; what it opens works in there for good.
  void run(const std::function<void()>& task) const;

 private:
  explicit PodNetns(std::string path) : path_(std::move(path)) {}
  std::string path_;
};

}  // namespace fairlead::testkit
