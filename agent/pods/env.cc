// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/env.h"

#include <algorithm>

namespace fairlead::pods {
namespace {

std::string join(const std::vector<IpAddress>& ips) {
  std::string text;
  for (const IpAddress& ip : ips) text += (text.empty() ? "" : ",") + ip.str();
  return text;
}

// Keeps the place of a name's first use, and its last value.
class Builder {
 public:
  void set(const std::string& name, std::string value) {
    values_[name] = value;
    const auto at = std::ranges::find(env_, name, &Env::value_type::first);
    if (at != env_.end()) {
      at->second = std::move(value);
    } else {
      env_.emplace_back(name, std::move(value));
    }
  }
  const std::map<std::string, std::string>& values() const { return values_; }
  Env take() { return std::move(env_); }

 private:
  Env env_;
  std::map<std::string, std::string> values_;
};

template <class Source>
Result<> add_all(Builder& env, const FindConfig& find, std::string_view kind, const k8s::Pod& pod, const Source& source,
                 const std::string& prefix) {
  const std::string& name = source.localobjectreference().name();
  const auto config = find(pod.metadata().namespace_() + "/" + name);
  if (!config) {
    if (source.optional()) return {};
    return fail(Code::kNotFound, "{} \"{}\" not found", kind, name);
  }
  for (const auto& [key, value] : config->data) env.set(prefix + key, value);
  return {};
}

// nullopt: optional, and not there.
template <class Selector>
Result<std::optional<std::string>> key_value(const FindConfig& find, std::string_view kind, const k8s::Pod& pod,
                                             const Selector& selector) {
  const std::string& name = selector.localobjectreference().name();
  const auto config = find(pod.metadata().namespace_() + "/" + name);
  if (config) {
    if (const auto at = config->data.find(selector.key()); at != config->data.end()) return at->second;
  }
  if (selector.optional()) return std::optional<std::string>();
  if (!config) return fail(Code::kNotFound, "{} \"{}\" not found", kind, name);
  return fail(Code::kNotFound, "couldn't find key {} in {} {}/{}", selector.key(), kind, pod.metadata().namespace_(),
              name);
}

Result<std::optional<std::string>> from_source(const EnvInput& input, const k8s::EnvVarSource& source) {
  if (source.has_fieldref()) {
    FL_LET(std::string value, field_value(input, source.fieldref().fieldpath()));
    return value;
  }
  if (source.has_configmapkeyref()) {
    return key_value(input.config_map, "configmap", input.pod, source.configmapkeyref());
  }
  if (source.has_secretkeyref()) return key_value(input.secret, "secret", input.pod, source.secretkeyref());
  return fail(Code::kInvalid, "valueFrom names no source");
}

}  // namespace

Result<Env> container_env(const EnvInput& input, const k8s::Container& container) {
  Builder env;
  for (const auto& from : container.envfrom()) {
    if (from.has_configmapref()) {
      FL_TRY(add_all(env, input.config_map, "configmap", input.pod, from.configmapref(), from.prefix()));
    }
    if (from.has_secretref()) {
      FL_TRY(add_all(env, input.secret, "secret", input.pod, from.secretref(), from.prefix()));
    }
  }
  for (const auto& var : container.env()) {
    if (!var.has_valuefrom()) {
      env.set(var.name(), expand(var.value(), env.values()));
      continue;
    }
    FL_LET(const auto value, from_source(input, var.valuefrom()));
    if (value) env.set(var.name(), *value);
  }
  return env.take();
}

std::string expand(const std::string& text, const std::map<std::string, std::string>& values) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '$' || i + 1 == text.size()) {
      out += text[i];
      continue;
    }
    if (text[i + 1] == '$') {
      out += '$';
      ++i;
      continue;
    }
    const std::size_t end = text[i + 1] == '(' ? text.find(')', i) : std::string::npos;
    if (end == std::string::npos) {
      out += '$';
      continue;
    }
    const auto at = values.find(text.substr(i + 2, end - i - 2));
    out += at != values.end() ? at->second : text.substr(i, end - i + 1);
    i = end;
  }
  return out;
}

Result<std::string> field_value(const EnvInput& input, const std::string& path) {
  const auto& meta = input.pod.metadata();
  if (path == "metadata.name") return meta.name();
  if (path == "metadata.namespace") return meta.namespace_();
  if (path == "metadata.uid") return meta.uid();
  if (path == "spec.nodeName") return input.node_name;
  if (path == "status.hostIP") return input.node_ips.empty() ? "" : input.node_ips.front().str();
  if (path == "status.podIP") return input.pod_ips.empty() ? "" : input.pod_ips.front().str();
  if (path == "status.podIPs") return join(input.pod_ips);
  for (const auto& [prefix, map] :
       {std::pair{std::string("metadata.labels['"), &meta.labels()}, {"metadata.annotations['", &meta.annotations()}}) {
    if (!path.starts_with(prefix) || !path.ends_with("']")) continue;
    const auto at = map->find(path.substr(prefix.size(), path.size() - prefix.size() - 2));
    return at == map->end() ? "" : at->second;
  }
  return fail(Code::kInvalid, "unsupported fieldPath: {}", path);
}

}  // namespace fairlead::pods
