// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/api/kubeconfig.h"

#include <openssl/evp.h>
#include <yaml-cpp/yaml.h>

#include <cstdlib>
#include <fstream>
#include <iterator>

namespace fairlead::kube {
namespace {

namespace fs = std::filesystem;

// One kubeconfig file while it is read: every error names it.
class Reader {
 public:
  explicit Reader(fs::path file) : file_(std::move(file)) {}

  Result<YAML::Node> named(const YAML::Node& root, const char* list, const std::string& name, const char* inner) const {
    for (const YAML::Node& entry : root[list]) {
      if (entry["name"] && entry["name"].as<std::string>() == name && entry[inner]) return entry[inner];
    }
    return fail(Code::kInvalid, "{}: {}: no entry named \"{}\"", file_.string(), list, name);
  }

  static std::string text(const YAML::Node& node, const char* field) {
    return node[field] ? node[field].as<std::string>() : std::string();
  }

  std::string path(const YAML::Node& node, const char* field) const {
    const std::string value = text(node, field);
    return value.empty() ? value : (file_.parent_path() / value).string();
  }

  Result<std::string> decoded(const YAML::Node& node, const char* field) const {
    const std::string value = text(node, field);
    std::string out(value.size() / 4 * 3 + 3, '\0');
    const int size =
        EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                        reinterpret_cast<const unsigned char*>(value.data()), static_cast<int>(value.size()));
    if (size < 0) return fail(Code::kInvalid, "{}: {}: not base64", file_.string(), field);
    out.resize(static_cast<std::size_t>(size));
    while (!out.empty() && out.back() == '\0') out.pop_back();  // padding decodes to zero bytes; PEM has none
    return out;
  }

  Result<ClusterAccess> read() const {
    const YAML::Node root = YAML::LoadFile(file_.string());
    const std::string current = text(root, "current-context");
    if (current.empty()) return fail(Code::kInvalid, "{}: current-context: required value", file_.string());
    FL_LET(const YAML::Node context, named(root, "contexts", current, "context"));
    FL_LET(const YAML::Node cluster, named(root, "clusters", text(context, "cluster"), "cluster"));
    FL_LET(const YAML::Node user, named(root, "users", text(context, "user"), "user"));

    ClusterAccess access;
    access.server = text(cluster, "server");
    if (!access.server.starts_with("https://") && !access.server.starts_with("http://")) {
      return fail(Code::kInvalid, "{}: server: \"{}\" is not an http(s) URL", file_.string(), access.server);
    }
    while (access.server.ends_with('/')) access.server.pop_back();
    access.insecure = cluster["insecure-skip-tls-verify"] && cluster["insecure-skip-tls-verify"].as<bool>();
    access.ca_file = path(cluster, "certificate-authority");
    FL_LET(access.ca_data, decoded(cluster, "certificate-authority-data"));
    for (const char* field : {"exec", "auth-provider", "username", "as"}) {
      if (user[field]) return fail(Code::kInvalid, "{}: users[].user.{}: not supported", file_.string(), field);
    }
    access.token = text(user, "token");
    access.token_file = path(user, "tokenFile");
    access.client_cert_file = path(user, "client-certificate");
    access.client_key_file = path(user, "client-key");
    FL_LET(access.client_cert_data, decoded(user, "client-certificate-data"));
    FL_LET(access.client_key_data, decoded(user, "client-key-data"));
    return access;
  }

 private:
  fs::path file_;
};

Result<std::string> read_trimmed(const fs::path& file) {
  std::ifstream in(file);
  if (!in) return fail_errno(errno, "read " + file.string());
  std::string text{std::istreambuf_iterator<char>(in), {}};
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())) != 0) text.pop_back();
  return text;
}

}  // namespace

Result<std::string> ClusterAccess::bearer_token() const {
  if (token_file.empty()) return token;
  return read_trimmed(token_file);
}

Result<ClusterAccess> read_kubeconfig(const fs::path& file) {
  std::error_code missing;
  if (!fs::exists(file, missing)) return fail_errno(ENOENT, "kubeconfig " + file.string());
  try {
    return Reader(file).read();
  } catch (const YAML::Exception& error) {
    return fail(Code::kInvalid, "{}:{}: {}", file.string(), error.mark.line + 1, error.msg);
  }
}

Result<ClusterAccess> in_cluster_access(const fs::path& folder) {
  const char* host = std::getenv("KUBERNETES_SERVICE_HOST");
  const char* port = std::getenv("KUBERNETES_SERVICE_PORT");
  if (host == nullptr || port == nullptr) {
    return fail(Code::kInvalid, "not in a cluster: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set");
  }
  ClusterAccess access;
  const std::string name(host);
  access.server = name.find(':') == std::string::npos ? fmt::format("https://{}:{}", name, port)
                                                      : fmt::format("https://[{}]:{}", name, port);
  access.ca_file = folder / "ca.crt";
  access.token_file = folder / "token";
  FL_TRY(access.bearer_token());
  return access;
}

}  // namespace fairlead::kube
