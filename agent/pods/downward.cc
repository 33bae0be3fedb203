// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/downward.h"

#include <k8s/pod.pb.h>

#include <map>
#include <optional>

#include "agent/kube/codec/quantity.h"
#include "agent/pods/pod_spec.h"

namespace fairlead::pods {
namespace {

std::string join(const std::vector<IpAddress>& ips) {
  std::string text;
  for (const IpAddress& ip : ips) text += (text.empty() ? "" : ",") + ip.str();
  return text;
}

std::string first(const std::vector<IpAddress>& ips) {
  return ips.empty() ? "" : ips.front().str();
}

// As Go's %q writes it: what is not printable as escapes, UTF-8 as it is.
std::string quoted(std::string_view text) {
  constexpr std::string_view kNamed = "\a\b\f\n\r\t\v\\\"";
  constexpr std::string_view kNames = "abfnrtv\\\"";
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (const auto at = kNamed.find(c); at != std::string_view::npos) {
      out += {'\\', kNames[at]};
    } else if (byte < 0x20 || byte == 0x7f) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  return out + "\"";
}

std::string lines(const google::protobuf::Map<std::string, std::string>& map) {
  std::string text;
  for (const auto& [key, value] : std::map<std::string, std::string>(map.begin(), map.end())) {
    text += fmt::format("{}{}={}", text.empty() ? "" : "\n", key, quoted(value));
  }
  return text;
}

// The x of "metadata.labels['x']".
std::optional<std::string> subscript(const std::string& path, const std::string& field) {
  if (!path.starts_with(field + "['") || !path.ends_with("']") || path.size() < field.size() + 4) return {};
  return path.substr(field.size() + 2, path.size() - field.size() - 4);
}

}  // namespace

Result<std::string> metadata_field(const k8s::Pod& pod, const std::string& path) {
  const auto& meta = pod.metadata();
  if (path == "metadata.name") return meta.name();
  if (path == "metadata.namespace") return meta.namespace_();
  if (path == "metadata.uid") return meta.uid();
  for (const auto& [field, map] :
       {std::pair{std::string("metadata.labels"), &meta.labels()}, {"metadata.annotations", &meta.annotations()}}) {
    if (path == field) return lines(*map);
    const auto key = subscript(path, field);
    if (!key) continue;
    const auto at = map->find(*key);
    return at == map->end() ? "" : at->second;
  }
  return fail(Code::kInvalid, "unsupported fieldPath: {}", path);
}

Result<std::string> env_field(const k8s::Pod& pod, const DownwardFacts& facts, const std::string& path) {
  if (path == "spec.nodeName") return facts.node_name;
  if (path == "spec.serviceAccountName") return pod.spec().serviceaccountname();
  if (path == "status.hostIP") return first(facts.node_ips);
  if (path == "status.hostIPs") return join(facts.node_ips);
  if (path == "status.podIP") return first(facts.pod_ips);
  if (path == "status.podIPs") return join(facts.pod_ips);
  return metadata_field(pod, path);
}

Result<std::string> resource_field(const k8s::Pod& pod, const k8s::ResourceFieldSelector& selector,
                                   const std::string& own, const Allocatable& allocatable) {
  const std::string& name = selector.containername().empty() ? own : selector.containername();
  const k8s::Container* container = find_container(pod.spec(), name);
  if (container == nullptr) return fail(Code::kInvalid, "container {} not found", name);

  const std::string& resource = selector.resource();
  const std::size_t dot = resource.find('.');
  const std::string what = resource.substr(dot == std::string::npos ? resource.size() : dot + 1);
  const bool limit = resource.starts_with("limits.");
  if (!limit && !resource.starts_with("requests.")) return fail(Code::kInvalid, "unsupported resource: {}", resource);
  const auto& amounts = limit ? container->resources().limits() : container->resources().requests();
  kube::Quantity amount;
  if (const auto at = amounts.find(what); at != amounts.end()) {
    FL_LET(amount, kube::Quantity::parse(at->second.string()));
  }
  kube::Quantity divisor;
  if (selector.has_divisor() && !selector.divisor().string().empty()) {
    FL_LET(divisor, kube::Quantity::parse(selector.divisor().string()));
  }
  if (divisor == kube::Quantity()) divisor = kube::Quantity::from_units(1);
  const bool unlimited = limit && amount == kube::Quantity();
  const auto ceiling = [](std::int64_t value, std::int64_t unit) {
    return std::to_string(value / unit + (value % unit > 0 ? 1 : 0));
  };
  if (what == "cpu") return ceiling(unlimited ? allocatable.cpu_milli : amount.milli(), divisor.milli());
  if (what == "memory") return ceiling(unlimited ? allocatable.memory_bytes : amount.units(), divisor.units());
  if (what == "ephemeral-storage") {
    return ceiling(unlimited ? allocatable.ephemeral_bytes : amount.units(), divisor.units());
  }
  return fail(Code::kInvalid, "unsupported resource: {}", resource);
}

}  // namespace fairlead::pods
