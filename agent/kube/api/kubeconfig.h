// SPDX-License-Identifier: Apache-2.0
// How to reach the API server and who we are there: from a kubeconfig file or from in-cluster credentials.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "agent/base/result.h"

namespace fairlead::kube {

// Files are named, not read, so that curl and bearer_token() see rotated ones.
struct ClusterAccess {
  std::string server;  // "https://10.0.0.1:6443", no slash at the end
  bool insecure = false;
  std::string ca_file, ca_data;  // PEM
  std::string client_cert_file, client_cert_data;
  std::string client_key_file, client_key_data;
  std::string token, token_file;

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
