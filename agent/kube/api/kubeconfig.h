// SPDX-License-Identifier: Apache-2.0
// How to reach the API server and who we are there: from a kubeconfig file or from in-cluster credentials.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/result.h"

namespace fairlead::kube {

// A program that tells who we are: kubeconfig's `exec`.
struct ExecConfig {
  std::string api_version;  // client.authentication.k8s.io/v1 or /v1beta1
  std::string command;      // a path, or a name for PATH
  std::vector<std::string> args;
  std::vector<std::pair<std::string, std::string>> env;  // besides the agent's own
  std::string install_hint;                              // for users who have no such command
  bool provide_cluster_info = false;
};

// Files are named, not read, so that rotated ones are seen. Data wins over a file.
struct ClusterAccess {
  std::string server;           // "https://10.0.0.1:6443", no slash at the end
  std::string tls_server_name;  // that the server's certificate must name; empty: the URL's host
  std::string proxy_url;        // empty: as the environment says
  bool insecure = false;
  std::string ca_file, ca_data;  // PEM
  std::string client_cert_file, client_cert_data;
  std::string client_key_file, client_key_data;
  std::string token, token_file;
  std::optional<ExecConfig> exec;

  // The bearer token now; empty where there is none.
  Result<std::string> bearer_token() const;
};

// Reads the current context of a kubeconfig. Errors name file, line and field; what we cannot use is refused, not
// ignored. kNotFound: there is no such file.
Result<ClusterAccess> read_kubeconfig(const std::filesystem::path& file);
// The same of its text; `file` is what errors name, and where its relative paths start.
Result<ClusterAccess> parse_kubeconfig(std::string_view text, const std::filesystem::path& file);

// The service account's credentials that every pod gets, from KUBERNETES_SERVICE_HOST and _PORT and `folder`.
Result<ClusterAccess> in_cluster_access(
    const std::filesystem::path& folder = "/var/run/secrets/kubernetes.io/serviceaccount");

}  // namespace fairlead::kube
