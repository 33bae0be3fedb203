// SPDX-License-Identifier: Apache-2.0
// A real control plane for one test run: etcd and kube-apiserver (and, where asked for, scheduler and controller
// manager), with Node and RBAC authorization and the NodeRestriction admission plugin.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "agent/base/local_protocol.h"
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
    std::string address = "127.0.0.1";  // of the API server; for the cluster's own Service one that is no loopback's
    std::string cluster_cidr{};         // controllers give nodes pod ranges of it; empty: they do not
    std::vector<std::string> nodes{"node-a", "node-b"};  // who may come: each has a token
    std::vector<std::string> without{};                  // admission plugins to do without
  };

  // Starts everything and waits until /readyz answers.
  static Result<ControlPlane> start(const Options& options);

  const std::string& url() const { return url_; }
  // A kubeconfig of "admin" (system:masters), or of system:node:NAME.
  std::filesystem::path admin_kubeconfig() const { return folder_ / "admin.kubeconfig"; }
  std::filesystem::path node_kubeconfig(const std::string& node) const { return folder_ / (node + ".kubeconfig"); }

  // A client certificate of `user` in `group`, in force at once: PREFIX.crt and PREFIX.key, replaced where they are.
  Result<> write_client_certificate(const std::string& prefix, const std::string& user, const std::string& group) const;
  // What the API server's own certificate is checked against.
  std::filesystem::path ca_file() const { return folder_ / "pki/apiserver.crt"; }

  // `kubectl ARGS` as admin.
  CommandResult kubectl(const std::string& args) const;
  // `kubectl ARGS` as whoever `token` is.
  CommandResult kubectl_as(const std::string& token, const std::string& args) const;
  // A request as admin, without kubectl: cheap enough to poll with. Status 0: no answer.
  struct Answer {
    int status = 0;
    std::string body;
  };
  Answer send(const std::string& method, const std::string& path, const std::vector<std::string>& headers = {},
              const std::string& body = {}) const;
  // GET as JSON. Null: no answer, or no such object.
  Json get(const std::string& path) const;
  // A kubeconfig of whoever `token` is, written as USER.kubeconfig. `server`: another way to the API server than url().
  std::filesystem::path write_kubeconfig(const std::string& user, const std::string& token,
                                         const std::string& server = {}) const;
  const std::filesystem::path& folder() const { return folder_; }

  // Kills the API server, and starts it again on the same port and data.
  void kill_api_server() { api_server_.kill(); }
  Result<> start_api_server();
  // The same of etcd; the API server stays.
  void kill_etcd() { etcd_.kill(); }
  Result<> start_etcd();
  // Takes the history away: a watch from before now finds its version expired, at the latest once the API server was
  // restarted.
  Result<> forget_history() const;

 private:
  Result<> start_all(const Options& options);
  Result<> write_keys() const;

  std::filesystem::path folder_;
  std::string binary_, service_cidr_, address_, url_, without_;
  unsigned etcd_port_ = 0, peer_port_ = 0, api_port_ = 0;
  Process etcd_, api_server_, controller_manager_, scheduler_;
};

}  // namespace fairlead::testkit
