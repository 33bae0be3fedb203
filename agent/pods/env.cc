// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/env.h"

#include <spdlog/fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <set>

namespace fairlead::pods {
namespace {

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

char to_upper(char c) {
  return static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
}
char to_lower(char c) {
  return static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
}

// "my-svc" → "MY_SVC".
std::string variable_name(const std::string& service) {
  std::string name = service;
  std::ranges::transform(name, name.begin(), [](char c) { return c == '-' ? '_' : to_upper(c); });
  return name;
}

void add_service(Builder& env, const model::Service& service) {
  const std::string name = variable_name(service.id.name);
  const IpAddress& address = service.cluster_ips.front();
  const std::string host = address.str();
  env.set(name + "_SERVICE_HOST", host);
  env.set(name + "_SERVICE_PORT", std::to_string(service.ports.front().port));
  for (const auto& port : service.ports) {
    if (port.name.empty()) continue;
    env.set(name + "_SERVICE_PORT_" + variable_name(port.name), std::to_string(port.port));
  }
  for (const auto& port : service.ports) {
    std::string protocol(to_string(port.protocol));
    const std::string link = fmt::format("{}_PORT_{}_{}", name, port.port, protocol);
    std::ranges::transform(protocol, protocol.begin(), to_lower);
    const std::string url =
        fmt::format(fmt::runtime(address.is_v4() ? "{}://{}:{}" : "{}://[{}]:{}"), protocol, host, port.port);
    if (&port == &service.ports.front()) env.set(name + "_PORT", url);
    env.set(link, url);
    env.set(link + "_PROTO", protocol);
    env.set(link + "_PORT", std::to_string(port.port));
    env.set(link + "_ADDR", host);
  }
}

template <class Source>
Result<> add_all(Builder& env, const EnvInput& input, ConfigKind kind, const Source& source,
                 const std::string& prefix) {
  const std::string& name = source.localobjectreference().name();
  FL_LET(const auto config, input.config(kind, input.pod.metadata().namespace_() + "/" + name));
  if (!config) {
    if (source.optional()) return {};
    return fail(Code::kNotFound, "{} \"{}\" not found", to_string(kind), name);
  }
  for (const auto& [key, value] : config->data) env.set(prefix + key, value);
  return {};
}

// nullopt: optional, and not there.
template <class Selector>
Result<std::optional<std::string>> key_value(const EnvInput& input, ConfigKind kind, const Selector& selector) {
  const std::string& name = selector.localobjectreference().name();
  const std::string& ns = input.pod.metadata().namespace_();
  FL_LET(const auto config, input.config(kind, ns + "/" + name));
  if (config) {
    if (const auto at = config->data.find(selector.key()); at != config->data.end()) return at->second;
  }
  if (selector.optional()) return std::optional<std::string>();
  if (!config) return fail(Code::kNotFound, "{} \"{}\" not found", to_string(kind), name);
  return fail(Code::kNotFound, "couldn't find key {} in {} {}/{}", selector.key(), to_string(kind), ns, name);
}

Result<std::optional<std::string>> from_source(const EnvInput& input, const k8s::Container& container,
                                               const k8s::EnvVarSource& source) {
  if (source.has_configmapkeyref()) return key_value(input, ConfigKind::kConfigMap, source.configmapkeyref());
  if (source.has_secretkeyref()) return key_value(input, ConfigKind::kSecret, source.secretkeyref());
  if (source.has_fieldref()) {
    FL_LET(std::string value, env_field(input.pod, input.facts, source.fieldref().fieldpath()));
    return value;
  }
  if (source.has_resourcefieldref()) {
    FL_LET(std::string value,
           resource_field(input.pod, source.resourcefieldref(), container.name(), input.facts.allocatable));
    return value;
  }
  return fail(Code::kInvalid, "valueFrom names no source");
}

// `text` with each "$(NAME)" as value_of(NAME), and "$$" as "$".
template <class ValueOf>
std::string expand_with(const std::string& text, ValueOf value_of) {
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
    out += value_of(text.substr(i + 2, end - i - 2));
    i = end;
  }
  return out;
}

bool has_backstep(const std::string& path) {
  return ("/" + path + "/").contains("/../");
}

}  // namespace

Env service_env(const k8s::Pod& pod, const std::vector<std::shared_ptr<const model::Service>>& services) {
  // A Service of the pod's own namespace goes before default/kubernetes, where both have that name.
  std::map<std::string, const model::Service*> shown;
  const std::string& ns = pod.metadata().namespace_();
  const bool links = !pod.spec().has_enableservicelinks() || pod.spec().enableservicelinks();
  for (const auto& service : services) {
    if (service->cluster_ips.empty() || service->ports.empty()) continue;
    const bool master = service->id.ns == "default" && service->id.name == "kubernetes";
    if (service->id.ns == ns && (links || master)) {
      shown[service->id.name] = service.get();
    } else if (master) {
      shown.try_emplace(service->id.name, service.get());
    }
  }
  Builder env;
  for (const auto& [name, service] : shown) add_service(env, *service);
  return env.take();
}

Result<Env> container_env(const EnvInput& input, const k8s::Container& container) {
  Builder env;
  for (const auto& [name, value] : input.services) env.set(name, value);
  for (const auto& from : container.envfrom()) {
    if (from.has_configmapref()) {
      FL_TRY(add_all(env, input, ConfigKind::kConfigMap, from.configmapref(), from.prefix()));
    }
    if (from.has_secretref()) FL_TRY(add_all(env, input, ConfigKind::kSecret, from.secretref(), from.prefix()));
  }
  for (const auto& var : container.env()) {
    if (!var.has_valuefrom()) {
      env.set(var.name(), expand(var.value(), env.values()));
      continue;
    }
    FL_LET(const auto value, from_source(input, container, var.valuefrom()));
    if (value) env.set(var.name(), *value);
  }
  return env.take();
}

Result<k8s::Container> expand_sub_paths(const k8s::Container& container, const Env& env) {
  k8s::Container out = container;
  const std::map<std::string, std::string> values(env.begin(), env.end());
  for (k8s::VolumeMount& mount : *out.mutable_volumemounts()) {
    if (mount.subpathexpr().empty()) continue;
    std::set<std::string> missing;
    std::string path = expand_with(mount.subpathexpr(), [&](const std::string& name) {
      const auto at = values.find(name);
      if (at != values.end() && !at->second.empty()) return at->second;
      missing.insert(name);
      return std::string();
    });
    if (!missing.empty()) return fail(Code::kInvalid, "missing value for {}", fmt::join(missing, ", "));
    if (path.starts_with('/')) return fail(Code::kInvalid, "error SubPath `{}` must not be an absolute path", path);
    if (has_backstep(path)) {
      return fail(Code::kInvalid, "unable to provision SubPath `{}`: must not contain '..'", path);
    }
    mount.set_subpath(std::move(path));
  }
  return out;
}

std::string expand(const std::string& text, const std::map<std::string, std::string>& values) {
  return expand_with(text, [&](const std::string& name) {
    const auto at = values.find(name);
    return at == values.end() ? "$(" + name + ")" : at->second;
  });
}

}  // namespace fairlead::pods
