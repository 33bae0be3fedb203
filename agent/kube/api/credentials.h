// SPDX-License-Identifier: Apache-2.0
// Credentials: who we are to the API server, at each moment: files are read anew, a plugin is asked again when what it
// said expires or is refused.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/loop.h"
#include "agent/base/result.h"
#include "agent/kube/api/exec_plugin.h"
#include "agent/kube/api/kubeconfig.h"

namespace fairlead::kube {

// Owner: HttpClient; thread: its loop. Cost: without a plugin a file read (token) and three stats a request; with one,
// a process each time its credential runs out.
class Credentials {
 public:
  Credentials(Loop& loop, const Clock& clock, ClusterAccess access);

  using Done = std::function<void(Result<Credential>)>;
  // Answers at once, or on the loop when the plugin has ended. An error names the file, or the plugin's command.
  void get(Done done);
  // The server took `credential` for nobody's (401). True: get() will bring another.
  bool refuse(const Credential& credential);
  // Changes when the CA or the client certificate does; connections made under another one are not to be used.
  std::string tls_stamp() const;

 private:
  void told(Result<ExecCredential> answer);

  const Clock& clock_;
  ClusterAccess access_;
  std::optional<ExecPlugin> plugin_;
  std::optional<ExecCredential> told_;  // by the plugin
  std::vector<Done> waiting_;           // for the plugin
};

}  // namespace fairlead::kube
