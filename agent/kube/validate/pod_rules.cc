// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/validate/pod_rules.h"

#include <k8s/pod.pb.h>

#include <algorithm>
#include <set>

#include "agent/kube/codec/quantity.h"
#include "agent/kube/validate/names.h"

namespace fairlead::kube {
namespace {

constexpr std::int64_t kMaxId = 2147483647;
constexpr std::int64_t kLeastTokenSeconds = 600;

bool is_map_entry(std::string_view path) {
  return (path.starts_with("metadata.labels['") || path.starts_with("metadata.annotations['")) && path.ends_with("']");
}

bool is_one(std::string_view text, std::initializer_list<std::string_view> of) {
  return std::ranges::find(of, text) != of.end();
}

// Bytes are told in powers of a thousand or 1024, CPUs in units and thousandths.
bool fits_divisor(const std::string& resource, const std::string& divisor) {
  if (is_one(divisor, {"", "0", "1"})) return true;
  if (resource.ends_with(".cpu")) return divisor == "1m";
  return is_one(divisor, {"1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"});
}

void check_id(Checker& check, const std::string& field, bool has, std::int64_t id) {
  if (has) check.between(field, id, 0, kMaxId);
}

void check_hook(Checker& check, const std::string& path, const k8s::PodSpec& spec, const k8s::LifecycleHandler& hook) {
  const int handlers = hook.has_exec() + hook.has_httpget() + hook.has_tcpsocket() + hook.has_sleep();
  if (handlers == 0) check.required(path, "must specify a handler type");
  if (handlers > 1) check.forbidden(path, "may not specify more than 1 handler type");
  if (!hook.has_sleep()) return;
  const std::int64_t grace = spec.terminationgraceperiodseconds();
  if (hook.sleep().seconds() < 0 || hook.sleep().seconds() > grace) {
    check.invalid(path + ".sleep", hook.sleep().seconds(),
                  fmt::format("must be non-negative and less than terminationGracePeriodSeconds ({})", grace));
  }
}

void check_headers(Checker& check, const std::string& path, const k8s::Probe& probe) {
  for (const k8s::HTTPHeader& header : probe.handler().httpget().httpheaders()) {
    const bool good = !header.name().empty() && std::ranges::all_of(header.name(), [](unsigned char letter) {
      return std::isalnum(letter) != 0 || letter == '-';
    });
    if (!good) check.invalid(path + ".httpGet.httpHeaders", header.name(), "must consist of letters, digits and '-'");
  }
}

bool is_sysctl(const std::string& name) {
  const auto inner = [](char letter) {
    return (letter >= 'a' && letter <= 'z') || (letter >= '0' && letter <= '9') || letter == '-' || letter == '_';
  };
  bool good = !name.empty() && name.size() <= 253;
  for (std::size_t i = 0; i < name.size(); ++i) {
    const bool separator = name[i] == '.' || name[i] == '/';
    const bool at_edge = i == 0 || i + 1 == name.size() || name[i - 1] == '.' || name[i - 1] == '/';
    good = good && (separator ? !at_edge : inner(name[i]));
  }
  return good;
}

}  // namespace

void check_field_ref(Checker& check, const std::string& path, const k8s::ObjectFieldSelector& ref, RefersFrom from) {
  const std::string& field = ref.fieldpath();
  if (field.empty()) return check.required(path + ".fieldPath");
  if (is_map_entry(field) || is_one(field, {"metadata.name", "metadata.namespace", "metadata.uid"})) return;
  const bool good = from == RefersFrom::kEnv
                        ? is_one(field, {"spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs",
                                         "status.podIP", "status.podIPs"})
                        : is_one(field, {"metadata.labels", "metadata.annotations"});
  if (!good) check.invalid(path + ".fieldPath", field, "is not a field that may be referred to here");
}

void check_resource_ref(Checker& check, const std::string& path, const k8s::ResourceFieldSelector& ref,
                        RefersFrom from) {
  const std::string& resource = ref.resource();
  if (from == RefersFrom::kVolume && ref.containername().empty()) check.required(path + ".containerName");
  if (resource.empty()) return check.required(path + ".resource");
  const bool huge = resource.starts_with("limits.hugepages-") || resource.starts_with("requests.hugepages-");
  if (!huge && !is_one(resource, {"limits.cpu", "limits.memory", "limits.ephemeral-storage", "requests.cpu",
                                  "requests.memory", "requests.ephemeral-storage"})) {
    return check.invalid(path + ".resource", resource, "is not a resource that may be referred to");
  }
  const auto divisor = Quantity::parse(ref.divisor().string().empty() ? "0" : ref.divisor().string());
  if (!divisor || !fits_divisor(resource, divisor->str())) {
    check.invalid(path + ".divisor", ref.divisor().string(), "is not a divisor of this resource");
  }
}

void check_projected(Checker& check, const std::string& path, const k8s::PodSpec& spec,
                     const k8s::ProjectedVolumeSource& projected) {
  std::set<std::string> paths;
  const auto unique = [&](const std::string& file) {
    if (!file.empty() && !paths.insert(file).second) check.invalid(path, file, "conflicting duplicate paths");
  };
  for (int i = 0; i < projected.sources_size(); ++i) {
    const k8s::VolumeProjection& source = projected.sources(i);
    const std::string where = at(path + ".sources", i);
    for (const auto& item : source.configmap().items()) unique(item.path());
    for (const auto& item : source.secret().items()) unique(item.path());
    for (const auto& item : source.downwardapi().items()) {
      unique(item.path());
      if (item.has_fieldref())
        check_field_ref(check, where + ".downwardAPI.fieldRef", item.fieldref(), RefersFrom::kVolume);
    }
    if (!source.has_serviceaccounttoken()) continue;
    const k8s::ServiceAccountTokenProjection& token = source.serviceaccounttoken();
    unique(token.path());
    if (token.path().empty()) check.required(where + ".serviceAccountToken.path");
    if (token.expirationseconds() < kLeastTokenSeconds) {
      check.invalid(where + ".serviceAccountToken.expirationSeconds", token.expirationseconds(),
                    "may not specify a duration less than 10 minutes");
    }
    if (spec.serviceaccountname().empty()) {
      check.forbidden(where + ".serviceAccountToken", "must not be specified when serviceAccountName is not set");
    }
  }
}

void check_container_rules(Checker& check, const std::string& path, const k8s::PodSpec& spec,
                           const k8s::Container& container) {
  const k8s::SecurityContext& security = container.securitycontext();
  for (const k8s::VolumeMount& mount : container.volumemounts()) {
    if (mount.mountpropagation() == "Bidirectional" && !security.privileged()) {
      check.forbidden(path + ".volumeMounts.mountPropagation",
                      "Bidirectional mount propagation is available only to privileged containers");
    }
  }
  if (container.lifecycle().has_poststart()) {
    check_hook(check, path + ".lifecycle.postStart", spec, container.lifecycle().poststart());
  }
  if (container.lifecycle().has_prestop()) {
    check_hook(check, path + ".lifecycle.preStop", spec, container.lifecycle().prestop());
  }
  check_headers(check, path + ".livenessProbe", container.livenessprobe());
  check_headers(check, path + ".readinessProbe", container.readinessprobe());
  check_headers(check, path + ".startupProbe", container.startupprobe());
  if (container.readinessprobe().has_terminationgraceperiodseconds()) {
    check.invalid(path + ".readinessProbe.terminationGracePeriodSeconds",
                  container.readinessprobe().terminationgraceperiodseconds(), "must not be set for readinessProbes");
  }
  check_id(check, path + ".securityContext.runAsUser", security.has_runasuser(), security.runasuser());
  check_id(check, path + ".securityContext.runAsGroup", security.has_runasgroup(), security.runasgroup());
  if (security.privileged() && security.has_allowprivilegeescalation() && !security.allowprivilegeescalation()) {
    check.invalid(path + ".securityContext", "privileged",
                  "cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
  }
}

void check_spec_rules(Checker& check, const k8s::PodSpec& spec) {
  std::set<std::string> host_ports;
  for (int i = 0; i < spec.containers_size(); ++i) {
    for (int j = 0; j < spec.containers(i).ports_size(); ++j) {
      const k8s::ContainerPort& port = spec.containers(i).ports(j);
      const std::string taken = fmt::format("{}/{}/{}", port.protocol(), port.hostip(), port.hostport());
      if (port.hostport() != 0 && !host_ports.insert(taken).second) {
        check.duplicate(at(at("spec.containers", i) + ".ports", j) + ".hostPort", taken);
      }
    }
  }
  for (const auto& [key, value] : spec.nodeselector()) {
    check.invalid("spec.nodeSelector", key, not_label_key(key));
    check.invalid("spec.nodeSelector", value, not_label_value(value));
  }
  for (int i = 0; i < spec.tolerations_size(); ++i) {
    const k8s::Toleration& each = spec.tolerations(i);
    if (each.operator_() == "Exists" && !each.value().empty()) {
      check.invalid(at("spec.tolerations", i) + ".operator", each.value(),
                    "value must be empty when `operator` is 'Exists'");
    }
  }
  const k8s::PodSecurityContext& security = spec.securitycontext();
  check_id(check, "spec.securityContext.runAsUser", security.has_runasuser(), security.runasuser());
  check_id(check, "spec.securityContext.runAsGroup", security.has_runasgroup(), security.runasgroup());
  check_id(check, "spec.securityContext.fsGroup", security.has_fsgroup(), security.fsgroup());
  for (int i = 0; i < security.sysctls_size(); ++i) {
    const std::string& name = security.sysctls(i).name();
    if (!is_sysctl(name))
      check.invalid(at("spec.securityContext.sysctls", i) + ".name", name, "is not a sysctl's name");
  }
  if (spec.shareprocessnamespace() && spec.hostpid()) {
    check.invalid("spec.shareProcessNamespace", true, "ShareProcessNamespace and HostPID cannot both be enabled");
  }
  if (spec.has_hostusers() && !spec.hostusers() && spec.hostnetwork()) {
    check.forbidden("spec.hostNetwork", "when `hostUsers` is false");
  }
  for (int i = 0; i < spec.readinessgates_size(); ++i) {
    const std::string& type = spec.readinessgates(i).conditiontype();
    check.invalid(at("spec.readinessGates", i) + ".conditionType", type, not_label_key(type));
  }
}

}  // namespace fairlead::kube
