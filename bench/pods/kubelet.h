// SPDX-License-Identifier: Apache-2.0
// Kubelet: the real kubelet with a containerd and a bridge of its own, beside the agent on one node.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "agent/base/result.h"
#include "test/kit/containerd.h"
#include "test/kit/control_plane.h"
#include "test/kit/process.h"

namespace fairlead::bench {

// Owner: the benchmark. Its Node is "kubelet".
class Kubelet {
 public:
  static constexpr auto kNode = "kubelet";
  // With the containerd in `containerd_bin`. Returns once the Node is Ready.
  static Result<std::unique_ptr<Kubelet>> start(const std::filesystem::path& folder,
                                                const std::filesystem::path& containerd_bin,
                                                const testkit::ControlPlane& plane);
  ~Kubelet();
  pid_t pid() const { return process_.pid(); }
  std::string endpoint() const { return containerd_->endpoint(); }

 private:
  explicit Kubelet(std::filesystem::path folder) : folder_(std::move(folder)) {}
  std::filesystem::path folder_;
  std::unique_ptr<testkit::Containerd> containerd_;
  testkit::Process process_;
};

}  // namespace fairlead::bench
