// SPDX-License-Identifier: Apache-2.0
// A real control plane for one test run: etcd and kube-apiserver (and, where asked for, scheduler and controller
// manager) on loopback, with Node and RBAC authorization.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "test/kit/process.h"

namespace fairlead::testkit {

class ControlPlane {
 public:
  struct Options {
    std::filesystem::path folder;  // of its own: data, keys, logs
    std::string binary;            // the `k8s` program of test/go/k8s
    bool controllers = false;      // scheduler and controller manager too
    std::string service_cidr = "10.96.0.0/16";
  };

  // Starts everything and waits until /readyz answers.
  static Result<ControlPlane> start(const Options& options);

  const std::string& url() const { return url_; }
  // A kubeconfig of "admin" (system:masters), or of system:node:NAME for the node given at make_node_kubeconfig().
  std::filesystem::path admin_kubeconfig() const { return folder_ / "admin.kubeconfig"; }
  // Tokens are read at start: the nodes "node-a" and "node-b" exist.
  std::filesystem::path node_kubeconfig(const std::string& node) const { return folder_ / (node + ".kubeconfig"); }

  // `kubectl ARGS` as admin.
  CommandResult kubectl(const std::string& args) const;

  // Kills the API server, and starts it again on the same port and data.
  void kill_api_server() { api_server_.kill(); }
  Result<> start_api_server();

 private:
  Result<> start_all(const Options& options);
  Result<> write_keys() const;
  void write_kubeconfig(const std::string& user, const std::string& token) const;

  std::filesystem::path folder_;
  std::string binary_, service_cidr_, url_;
  unsigned etcd_port_ = 0, peer_port_ = 0, api_port_ = 0;
  Process etcd_, api_server_, controller_manager_, scheduler_;
};

}  // namespace fairlead::testkit
