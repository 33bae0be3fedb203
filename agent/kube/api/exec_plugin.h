// SPDX-License-Identifier: Apache-2.0
// ExecPlugin: a program that tells who we are, as kubeconfig's `exec` names it (client.authentication.k8s.io).
#pragma once

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "agent/base/clock.h"
#include "agent/base/loop.h"
#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "agent/kube/api/kubeconfig.h"

namespace fairlead::kube {

// What a request says about who we are. Without a certificate of its own, the kubeconfig's counts.
struct Credential {
  std::string token;                // bearer; empty: none
  std::string cert_data, key_data;  // PEM
  bool operator==(const Credential&) const = default;
};

struct ExecCredential {
  Credential credential;
  std::optional<WallTime> expires;
};

// Reads an ExecCredential of `api_version`. Errors name the field.
Result<ExecCredential> read_exec_credential(std::string_view text, const std::string& api_version);

// Owner: Credentials; thread: the loop's. One process at a time; it is killed after a minute, and with its owner.
class ExecPlugin {
 public:
  ExecPlugin(Loop& loop, ExecConfig config, const ClusterAccess& access);
  ~ExecPlugin() { end(); }
  ExecPlugin(const ExecPlugin&) = delete;
  ExecPlugin& operator=(const ExecPlugin&) = delete;

  // Runs the program; `done` comes on the loop, once. Not while it runs.
  void run(std::function<void(Result<ExecCredential>)> done);

 private:
  Result<> spawn();
  void read_output();
  void exited();
  int end();  // kills what runs and takes its leave; its wait status

  Loop& loop_;
  ExecConfig config_;
  std::string info_;  // KUBERNETES_EXEC_INFO
  std::function<void(Result<ExecCredential>)> done_;
  pid_t pid_ = -1;
  UniqueFd process_, output_;
  std::string text_;
  bool timed_out_ = false;
  Subscription ended_, readable_, limit_;
};

}  // namespace fairlead::kube
