// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/api/kubeconfig.h"

#include <cctype>
#include <cstdlib>

#include "agent/base/atomic_file.h"
#include "agent/kube/codec/base64.h"
#include "agent/kube/codec/yaml.h"

namespace fairlead::kube {
namespace {

namespace fs = std::filesystem;

using yaml::Node;

constexpr std::string_view kExecV1 = "client.authentication.k8s.io/v1";
constexpr std::string_view kExecV1Beta1 = "client.authentication.k8s.io/v1beta1";

// One kubeconfig while it is read: every error names the file, the line and the field.
class Reader {
 public:
  explicit Reader(const fs::path& file) : file_(file) {}

  Result<ClusterAccess> read(const Node& root) const {
    if (root.kind != Node::Kind::kMap) return refuse(root, "", expected("a map", root));
    FL_LET(const std::string current, required(root, "", "current-context"));
    FL_LET(const Node* context, named(root, "contexts", current, "context"));
    FL_LET(const std::string cluster_name, required(*context, "contexts[].context.", "cluster"));
    FL_LET(const std::string user_name, required(*context, "contexts[].context.", "user"));
    FL_LET(const Node* cluster, named(root, "clusters", cluster_name, "cluster"));
    FL_LET(const Node* user, named(root, "users", user_name, "user"));
    ClusterAccess access;
    FL_TRY(read_cluster(*cluster, access));
    FL_TRY(read_user(*user, access));
    return access;
  }
  std::unexpected<Error> refuse(const FieldError& error) const {
    return fail(Code::kInvalid, "{}", locate(file_.string(), error));
  }

 private:
  std::unexpected<Error> refuse(const Node& at, const std::string& field, const std::string& reason) const {
    return refuse(FieldError{field, reason, at.line});
  }
  static std::string expected(const char* what, const Node& got) {
    return fmt::format("expected {}, got {}", what, yaml::kind_name(got));
  }

  // Field `name` of `node`, whose own path is `path`; "" where it is not there.
  Result<std::string> text(const Node& node, const std::string& path, const char* name) const {
    const Node* field = node.get(name);
    if (field == nullptr || field->kind == Node::Kind::kNull) return std::string();
    if (field->kind != Node::Kind::kScalar) return refuse(*field, path + name, expected("a string", *field));
    return field->text;
  }
  Result<std::string> file_name(const Node& node, const std::string& path, const char* name) const {
    FL_LET(const std::string value, text(node, path, name));
    return value.empty() ? value : (file_.parent_path() / value).string();
  }
  Result<std::string> decoded(const Node& node, const std::string& path, const char* name) const {
    FL_LET(const std::string value, text(node, path, name));
    auto bytes = base64_decode(value);
    if (!bytes) return refuse(*node.get(name), path + name, bytes.error().what);
    return std::move(*bytes);
  }

  Result<bool> flag(const Node& node, const std::string& path, const char* name) const {
    FL_LET(const std::string value, text(node, path, name));
    bool set = false;
    if (!value.empty() && !yaml::is_bool_word(value, &set)) {
      return refuse(*node.get(name), path + name, fmt::format("\"{}\" is no truth value", value));
    }
    return set;
  }
  Result<std::string> required(const Node& node, const std::string& path, const char* name) const {
    FL_LET(std::string value, text(node, path, name));
    if (value.empty()) return refuse(node, path + name, "required value");
    return value;
  }

  // What `list`'s entry of that name holds as `inner`.
  Result<const Node*> named(const Node& root, const std::string& list, const std::string& name,
                            const char* inner) const {
    const Node* entries = root.get(list);
    if (entries == nullptr) return refuse(root, list, "required value");
    for (const Node& entry : entries->items) {
      const Node* found = entry.get(inner);
      if (entry.text_of("name") != name || found == nullptr) continue;
      if (found->kind == Node::Kind::kMap) return found;
      return refuse(*found, list + "[]." + inner, expected("a map", *found));
    }
    return refuse(*entries, list, fmt::format("no entry named \"{}\"", name));
  }

  Result<> read_cluster(const Node& cluster, ClusterAccess& access) const {
    const std::string path = "clusters[].cluster.";
    FL_LET(access.server, text(cluster, path, "server"));
    if (!access.server.starts_with("https://") && !access.server.starts_with("http://")) {
      return refuse(cluster, path + "server", fmt::format("\"{}\" is not an http(s) URL", access.server));
    }
    while (access.server.ends_with('/')) access.server.pop_back();
    FL_LET(access.insecure, flag(cluster, path, "insecure-skip-tls-verify"));
    FL_LET(access.tls_server_name, text(cluster, path, "tls-server-name"));
    FL_LET(access.proxy_url, text(cluster, path, "proxy-url"));
    FL_LET(access.ca_file, file_name(cluster, path, "certificate-authority"));
    FL_LET(access.ca_data, decoded(cluster, path, "certificate-authority-data"));
    return {};
  }

  Result<> read_user(const Node& user, ClusterAccess& access) const {
    const std::string path = "users[].user.";
    for (const char* field : {"auth-provider", "username", "password", "as", "as-uid", "as-groups", "as-user-extra"}) {
      if (const Node* at = user.get(field)) return refuse(*at, path + field, "not supported");
    }
    FL_LET(access.token, text(user, path, "token"));
    FL_LET(access.token_file, file_name(user, path, "tokenFile"));
    FL_LET(access.client_cert_file, file_name(user, path, "client-certificate"));
    FL_LET(access.client_key_file, file_name(user, path, "client-key"));
    FL_LET(access.client_cert_data, decoded(user, path, "client-certificate-data"));
    FL_LET(access.client_key_data, decoded(user, path, "client-key-data"));
    const bool certificate = !access.client_cert_file.empty() || !access.client_cert_data.empty();
    const bool key = !access.client_key_file.empty() || !access.client_key_data.empty();
    if (certificate != key)
      return refuse(user, path + (certificate ? "client-key" : "client-certificate"), "required value");
    if (const Node* exec = user.get("exec")) {
      FL_LET(access.exec, read_exec(*exec, path + "exec."));
    }
    return {};
  }

  Result<ExecConfig> read_exec(const Node& exec, const std::string& path) const {
    if (exec.kind != Node::Kind::kMap) return refuse(exec, "users[].user.exec", expected("a map", exec));
    ExecConfig config;
    FL_LET(config.api_version, required(exec, path, "apiVersion"));
    if (config.api_version != kExecV1 && config.api_version != kExecV1Beta1) {
      return refuse(*exec.get("apiVersion"), path + "apiVersion", fmt::format("want {} or {}", kExecV1, kExecV1Beta1));
    }
    FL_LET(config.command, required(exec, path, "command"));
    if (config.command.find('/') != std::string::npos) config.command = (file_.parent_path() / config.command).string();
    FL_LET(const std::string interactive, text(exec, path, "interactiveMode"));
    if (interactive == "Always") return refuse(exec, path + "interactiveMode", "nobody is there to be asked");
    FL_LET(config.install_hint, text(exec, path, "installHint"));
    FL_LET(config.provide_cluster_info, flag(exec, path, "provideClusterInfo"));
    if (const Node* args = exec.get("args")) {
      for (const Node& each : args->items) {
        if (each.kind != Node::Kind::kScalar) return refuse(each, path + "args[]", expected("a string", each));
        config.args.push_back(each.text);
      }
    }
    if (const Node* env = exec.get("env")) {
      for (const Node& each : env->items) {
        FL_LET(std::string name, required(each, path + "env[].", "name"));
        FL_LET(std::string value, text(each, path + "env[].", "value"));
        config.env.emplace_back(std::move(name), std::move(value));
      }
    }
    return config;
  }

  const fs::path& file_;
};

Result<std::string> read_trimmed(const fs::path& file) {
  FL_LET(std::string text, read_file(file));
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back())) != 0) text.pop_back();
  return text;
}

}  // namespace

Result<std::string> ClusterAccess::bearer_token() const {
  if (token_file.empty()) return token;
  return read_trimmed(token_file);
}

Result<ClusterAccess> parse_kubeconfig(std::string_view text, const fs::path& file) {
  const Reader reader(file);
  const auto root = yaml::parse_one(text);
  if (!root) return reader.refuse(root.error());
  return reader.read(*root);
}

Result<ClusterAccess> read_kubeconfig(const fs::path& file) {
  auto text = read_file(file);
  if (!text) return fail_with(std::move(text).error(), "kubeconfig");
  return parse_kubeconfig(*text, file);
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
