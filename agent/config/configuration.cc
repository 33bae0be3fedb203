// SPDX-License-Identifier: Apache-2.0
#include "agent/config/configuration.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cctype>
#include <fstream>
#include <iterator>

#include "agent/config/fields.h"
#include "agent/config/kube_proxy.h"

namespace fairlead::config {
namespace {

constexpr const char* kApiVersion = "fairlead.io/v1alpha1";
constexpr const char* kKind = "AgentConfiguration";

// A configuration in the making: remembers where each value came from, so that every error can say so.
class Builder {
 public:
  Result<> read_file(const std::string& file, const std::string& text) {
    file_ = file;
    try {
      const std::vector<YAML::Node> documents = YAML::LoadAll(text);
      if (documents.size() != 1) {
        return fail(Code::kInvalid, "{}: want one document, there are {}", file, documents.size());
      }
      return read_document(documents.front());
    } catch (const YAML::Exception& error) {
      return fail(Code::kInvalid, "{}:{}: {}", file, error.mark.line + 1, error.msg);
    }
  }

  // What flags and our own file do not say.
  Result<> read_kube_proxy(const std::string& file, const std::string& text) {
    FL_LET(KubeProxyFile read, read_kube_proxy_file(file, text));
    configuration_.conntrack = read.conntrack;
    configuration_.without_effect = std::move(read.without_effect);
    for (const auto& [name, value, place] : read.settings) {
      // Objects have one source; where it is named already, it is that.
      const bool has_source = name == "kubeconfig" && origins_.contains("manifests");
      if (origins_.contains(name) || has_source) {
        configuration_.without_effect.push_back(place);
      } else {
        FL_TRY(set(named(name), value, place));
      }
    }
    return {};
  }
  const std::string& proxy_config() const { return configuration_.proxy_config; }

  Result<> set_flag(const std::string& flag, const std::string& value) {
    const auto at = std::ranges::find(fields(), flag, &Field::flag);
    if (at == fields().end()) return fail(Code::kInvalid, "--{}: no such flag", flag);
    return set(*at, value, "--" + flag);
  }

  Result<AgentConfiguration> complete(const HostFacts& host, bool needs_source) {
    AgentConfiguration& out = configuration_;
    if (!out.manifests.empty() && !out.kubeconfig.empty()) {
      return fail(Code::kInvalid, "{} and {} exclude each other: objects have one source", origin("manifests"),
                  origin("kubeconfig"));
    }
    if (!out.manifests.empty() && !out.static_pod_path.empty()) {
      return fail(Code::kInvalid, "{} is for pods beside an API server's: {} has pods already", origin("staticPodPath"),
                  origin("manifests"));
    }
    if (needs_source && out.manifests.empty() && out.kubeconfig.empty() && !host.in_cluster) {
      return fail(Code::kInvalid, "no source of objects: set --manifests DIR or --kubeconfig FILE");
    }
    if (out.node_name.empty()) {
      std::string name = host.hostname;
      std::ranges::transform(name, name.begin(), [](unsigned char c) { return std::tolower(c); });
      FL_TRY(set(named("nodeName"), name, "--node-name, from the host name"));
    }
    if (out.node_ips.empty()) out.node_ips = host.addresses;
    if (out.node_ips.empty()) return fail(Code::kInvalid, "--node-ip: this machine has no address to take; set it");
    FL_TRY(place_cgroups(host));
    if (!out.manifests.empty()) {
      if (out.service_cidrs.empty()) FL_TRY(set(named("serviceCIDR"), "10.96.0.0/16", "--service-cidr, by default"));
    }
    FL_TRY(check_ranges());
    return out;
  }

 private:
  static const Field& named(const std::string& name) { return *std::ranges::find(fields(), name, &Field::name); }

  std::string at_line(const YAML::Node& node, const std::string& name) const {
    return fmt::format("{}:{}: {}", file_, node.Mark().line + 1, name);
  }

  Result<> read_document(const YAML::Node& document) {
    if (!document.IsMap()) return fail(Code::kInvalid, "{}: want a map with apiVersion and kind", file_);
    std::map<std::string, int> lines;
    for (const auto& entry : document) {
      const std::string name = entry.first.as<std::string>();
      const int line = entry.first.Mark().line + 1;
      if (const auto [first, fresh] = lines.emplace(name, line); !fresh) {
        return fail(Code::kInvalid, "{}: set twice, first on line {}", at_line(entry.first, name), first->second);
      }
      if (name == "apiVersion" || name == "kind") {
        FL_TRY(check_type(entry.first, entry.second, name, name == "kind" ? kKind : kApiVersion));
      } else {
        FL_TRY(read_field(entry.first, entry.second, name));
      }
    }
    for (const char* name : {"apiVersion", "kind"}) {
      if (!lines.contains(name)) return fail(Code::kInvalid, "{}: {}: required value", file_, name);
    }
    return {};
  }

  Result<> check_type(const YAML::Node& key, const YAML::Node& value, const std::string& name, const char* want) const {
    const std::string have = value.IsScalar() ? value.Scalar() : "";
    if (have != want) return fail(Code::kInvalid, "{}: \"{}\": want {}", at_line(key, name), have, want);
    return {};
  }

  Result<> read_field(const YAML::Node& key, const YAML::Node& value, const std::string& name) {
    const auto at = std::ranges::find(fields(), name, &Field::name);
    if (at == fields().end()) {
      std::vector<std::string> names;
      std::ranges::transform(fields(), std::back_inserter(names), &Field::name);
      const std::string near = nearest(name, names);
      return fail(Code::kInvalid, "{}: unknown field{}", at_line(key, name),
                  near.empty() ? "" : fmt::format("; did you mean {}?", near));
    }
    std::string text;
    if (value.IsScalar()) {
      text = value.Scalar();
    } else if (value.IsSequence() && at->placeholder.find('[') != std::string::npos) {
      for (const YAML::Node& item : value) text += (text.empty() ? "" : ",") + item.as<std::string>();
    } else if (!value.IsNull()) {
      return fail(Code::kInvalid, "{}: want {}", at_line(key, name), at->placeholder);
    }
    if (value.IsNull()) return {};  // as if it were not there
    return set(*at, text, at_line(key, name));
  }

  Result<> set(const Field& field, const std::string& value, const std::string& origin) {
    if (auto done = field.set(configuration_, value); !done) return fail_with(std::move(done).error(), origin);
    origins_[field.name] = origin;
    return {};
  }

  const std::string& origin(const std::string& name) const { return origins_.at(name); }

  // Socket programs see pods only below their own cgroup, so the runtime is given a parent there.
  Result<> place_cgroups(const HostFacts& host) {
    AgentConfiguration& out = configuration_;
    if (host.cgroup2_mounts.empty()) return fail(Code::kInvalid, "--cgroup-root: no cgroup2 file system is mounted");
    if (out.cgroup_root.empty()) out.cgroup_root = host.cgroup2_mounts.front();
    while (out.cgroup_root.ends_with('/')) out.cgroup_root.pop_back();
    for (const std::string& mount : host.cgroup2_mounts) {
      if (!(out.cgroup_root + "/").starts_with(mount + "/")) continue;
      out.cgroup_prefix = out.cgroup_root.substr(mount.size());
      return {};
    }
    return fail(Code::kInvalid, "{}: {} is not in the cgroup2 file system at {}", origin("cgroupRoot"), out.cgroup_root,
                host.cgroup2_mounts.front());
  }

  // Pods and Services must be told apart by address alone.
  Result<> check_ranges() const {
    for (const Cidr& pods : configuration_.pod_cidrs) {
      for (const Cidr& services : configuration_.service_cidrs) {
        if (pods.contains(services.base()) || services.contains(pods.base())) {
          return fail(Code::kInvalid, "{}: {} overlaps {} of {}", origin("podCIDR"), pods.str(), services.str(),
                      origin("serviceCIDR"));
        }
      }
    }
    return {};
  }

  std::string file_;
  AgentConfiguration configuration_;
  std::map<std::string, std::string> origins_;  // field name → where its value stands
};

Result<std::string> read_file(const std::string& path, const char* what) {
  std::ifstream in(path);
  if (!in) return fail_errno(errno, fmt::format("{}: read {}", what, path));
  return std::string{std::istreambuf_iterator<char>(in), {}};
}

// Whether the text names itself as kube-proxy's configuration; other errors are its reader's to find.
bool is_kube_proxy(const std::string& text) {
  try {
    const YAML::Node document = YAML::Load(text);
    return document.IsMap() && document["kind"] && document["kind"].IsScalar() &&
           document["kind"].Scalar() == kKubeProxyKind;
  } catch (const YAML::Exception&) {
    return false;
  }
}

// `kube_proxy`: what --config says, where that is a file of kube-proxy's.
Result<AgentConfiguration> build(Builder builder, const Settings& settings, const HostFacts& host,
                                 const std::string& kube_proxy = "") {
  for (const auto& [flag, value] : settings.flags) FL_TRY(builder.set_flag(flag, value));
  if (!kube_proxy.empty()) FL_TRY(builder.read_kube_proxy(settings.config_file, kube_proxy));
  if (const std::string& file = builder.proxy_config(); !file.empty()) {
    if (!kube_proxy.empty()) {
      return fail(Code::kInvalid, "--config {} and --proxy-config {} are both {}", settings.config_file, file,
                  kKubeProxyKind);
    }
    FL_LET(const std::string text, read_file(file, "--proxy-config"));
    FL_TRY(builder.read_kube_proxy(file, text));
  }
  return builder.complete(host, settings.needs_source);
}

}  // namespace

std::string_view to_string(Mode mode) {
  return mode == Mode::kNode ? "node" : "dataplane";
}

AgentConfiguration::AgentConfiguration()
    : metrics_bind_address(SocketAddress{IpAddress::from_v4({127, 0, 0, 1}), 10249}),
      healthz_bind_address(SocketAddress{IpAddress::from_v4({0, 0, 0, 0}), 10256}) {}

Result<AgentConfiguration> load(const Settings& settings, const HostFacts& host) {
  if (settings.config_file.empty()) return build({}, settings, host);
  FL_LET(const std::string text, read_file(settings.config_file, "--config"));
  return load_text(text, settings, host);
}

Result<AgentConfiguration> load_text(const std::string& text, const Settings& settings, const HostFacts& host) {
  // Of kube-proxy's, as its own users call it: --config. Everything else wins over it.
  if (is_kube_proxy(text)) return build({}, settings, host, text);
  Builder builder;
  FL_TRY(builder.read_file(settings.config_file, text));
  return build(std::move(builder), settings, host);
}

Json to_json(const AgentConfiguration& configuration) {
  Json out{{"apiVersion", kApiVersion}, {"kind", kKind}};
  for (const Field& field : fields()) {
    if (Json value = field.get(configuration); !value.is_null()) out[field.name] = std::move(value);
  }
  return out;
}

}  // namespace fairlead::config
