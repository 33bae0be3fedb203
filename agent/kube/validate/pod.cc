// SPDX-License-Identifier: Apache-2.0
#include <k8s/pod.pb.h>

#include <map>
#include <set>

#include "agent/kube/codec/quantity.h"
#include "agent/kube/validate/checker.h"
#include "agent/kube/validate/names.h"
#include "agent/kube/validate/pod_rules.h"
#include "agent/kube/validate/validate.h"

namespace fairlead::kube {
namespace {

using Volumes = std::map<std::string, const k8s::VolumeSource*>;

void check_no_backsteps(Checker& check, const std::string& field, const std::string& path) {
  for (std::string_view rest = path; !rest.empty();) {
    const std::string_view part = rest.substr(0, rest.find('/'));
    if (part == "..") return check.invalid(field, path, "must not contain '..'");
    rest.remove_prefix(std::min(rest.size(), part.size() + 1));
  }
}

void check_relative(Checker& check, const std::string& field, const std::string& path) {
  if (path.starts_with('/')) check.invalid(field, path, "must be a relative path");
  check_no_backsteps(check, field, path);
}

void check_items(Checker& check, const std::string& path, const auto& source) {
  constexpr std::int64_t kModeLimit = 0777;
  check.between(path + ".defaultMode", source.defaultmode(), 0, kModeLimit);
  for (int i = 0; i < source.items_size(); ++i) {
    const k8s::KeyToPath& item = source.items(i);
    const std::string where = at(path + ".items", i);
    if (item.key().empty()) check.required(where + ".key");
    if (item.path().empty()) check.required(where + ".path");
    check_relative(check, where + ".path", item.path());
    if (item.has_mode()) check.between(where + ".mode", item.mode(), 0, kModeLimit);
  }
}

Volumes check_volumes(Checker& check, const k8s::PodSpec& spec) {
  Volumes volumes;
  for (int i = 0; i < spec.volumes_size(); ++i) {
    const k8s::Volume& volume = spec.volumes(i);
    const std::string path = at("spec.volumes", i);
    if (volume.name().empty()) {
      check.required(path + ".name");
    } else {
      check.invalid(path + ".name", volume.name(), not_dns_label(volume.name()));
    }
    const k8s::VolumeSource& source = volume.volumesource();
    if (!volumes.emplace(volume.name(), &source).second) check.duplicate(path + ".name", volume.name());
    std::vector<const google::protobuf::FieldDescriptor*> set;
    source.GetReflection()->ListFields(source, &set);
    if (set.size() > 1) check.forbidden(path, "may not specify more than 1 volume type");
    if (source.has_hostpath()) {
      check_no_backsteps(check, path + ".hostPath.path", source.hostpath().path());
      if (source.hostpath().path().empty()) check.required(path + ".hostPath.path");
      check.one_of(
          path + ".hostPath.type", source.hostpath().type(),
          {"", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"});
    }
    if (source.has_configmap()) {
      if (source.configmap().localobjectreference().name().empty()) check.required(path + ".configMap.name");
      check_items(check, path + ".configMap", source.configmap());
    }
    if (source.has_secret()) {
      if (source.secret().secretname().empty()) check.required(path + ".secret.secretName");
      check_items(check, path + ".secret", source.secret());
    }
    if (source.has_downwardapi()) {
      for (const auto& item : source.downwardapi().items()) {
        const std::string where = path + ".downwardAPI";
        if (item.has_fieldref()) check_field_ref(check, where + ".fieldRef", item.fieldref(), RefersFrom::kVolume);
        if (item.has_resourcefieldref()) {
          check_resource_ref(check, where + ".resourceFieldRef", item.resourcefieldref(), RefersFrom::kVolume);
        }
      }
    }
    if (source.has_projected()) check_projected(check, path + ".projected", spec, source.projected());
    if (source.has_emptydir()) {
      const std::string& medium = source.emptydir().medium();
      if (!medium.starts_with("HugePages")) check.one_of(path + ".emptyDir.medium", medium, {"", "Memory"});
    }
  }
  return volumes;
}

void check_env(Checker& check, const std::string& path, const k8s::Container& container) {
  for (int i = 0; i < container.env_size(); ++i) {
    const k8s::EnvVar& variable = container.env(i);
    const std::string where = at(path + ".env", i);
    if (variable.name().empty()) {
      check.required(where + ".name");
    } else {
      check.invalid(where + ".name", variable.name(), not_env_name(variable.name()));
    }
    if (!variable.has_valuefrom()) continue;
    const k8s::EnvVarSource& from = variable.valuefrom();
    const std::string source = where + ".valueFrom";
    const int sources = from.has_fieldref() + from.has_resourcefieldref() + from.has_configmapkeyref() +
                        from.has_secretkeyref() + from.has_filekeyref();
    if (sources == 0)
      check.invalid(source, "", "must specify one of: fieldRef, resourceFieldRef, configMapKeyRef, secretKeyRef");
    if (sources > 1) check.invalid(source, "", "may not have more than one field specified at a time");
    if (!variable.value().empty()) check.invalid(source, "", "may not be specified when `value` is not empty");
    const auto reference = [&](const std::string& field, const auto& ref) {
      if (ref.localobjectreference().name().empty()) check.required(field + ".name");
      if (ref.key().empty()) {
        check.required(field + ".key");
      } else {
        check.invalid(field + ".key", ref.key(), not_config_key(ref.key()));
      }
    };
    if (from.has_configmapkeyref()) reference(source + ".configMapKeyRef", from.configmapkeyref());
    if (from.has_secretkeyref()) reference(source + ".secretKeyRef", from.secretkeyref());
    if (from.has_fieldref()) check_field_ref(check, source + ".fieldRef", from.fieldref(), RefersFrom::kEnv);
    if (from.has_resourcefieldref()) {
      check_resource_ref(check, source + ".resourceFieldRef", from.resourcefieldref(), RefersFrom::kEnv);
    }
  }
  for (int i = 0; i < container.envfrom_size(); ++i) {
    const k8s::EnvFromSource& from = container.envfrom(i);
    const std::string where = at(path + ".envFrom", i);
    if (!from.prefix().empty()) check.invalid(where + ".prefix", from.prefix(), not_env_name(from.prefix()));
    if (from.has_configmapref() == from.has_secretref()) {
      check.invalid(where, "", "must specify one of: `configMapRef` or `secretRef`");
    }
    if (from.has_configmapref() && from.configmapref().localobjectreference().name().empty()) {
      check.required(where + ".configMapRef.name");
    }
    if (from.has_secretref() && from.secretref().localobjectreference().name().empty()) {
      check.required(where + ".secretRef.name");
    }
  }
}

void check_resources(Checker& check, const std::string& path, const k8s::ResourceRequirements& resources) {
  const auto amounts = [&](const std::string& field, const auto& map) {
    std::map<std::string, Quantity> parsed;
    for (const auto& [name, amount] : map) {
      const auto quantity = Quantity::parse(amount.string());
      const std::string where = field + "[" + name + "]";
      check.invalid(where, name, not_label_key(name));
      const bool plain = name.find('/') == std::string::npos;
      const bool standard =
          name == "cpu" || name == "memory" || name == "ephemeral-storage" || name.starts_with("hugepages-");
      if (plain && !standard) check.invalid(where, name, "must be a standard resource type or fully qualified");
      if (!quantity) {
        check.invalid(where, amount.string(), quantity.error().what);
        continue;
      }
      if (*quantity < Quantity()) check.invalid(where, amount.string(), "must be greater than or equal to 0");
      if (!plain && *quantity != Quantity::from_units(quantity->units())) {
        check.invalid(where, amount.string(), "must be an integer");
      }
      parsed[name] = *quantity;
    }
    return parsed;
  };
  const auto limits = amounts(path + ".limits", resources.limits());
  for (const auto& [name, request] : amounts(path + ".requests", resources.requests())) {
    const auto limit = limits.find(name);
    const bool equal = name.starts_with("hugepages-") || name.find('/') != std::string::npos;
    if (equal && (limit == limits.end() || request != limit->second)) {
      check.invalid(path + ".requests", request.str(), fmt::format("must be equal to {} limit", name));
    }
    if (!equal && limit != limits.end() && request > limit->second) {
      check.invalid(path + ".requests", request.str(),
                    fmt::format("must be less than or equal to {} limit of {}", name, limit->second.str()));
    }
  }
}

void check_action_port(Checker& check, const std::string& field, const k8s::IntOrString& port) {
  if (port.type() == 1) {
    check.invalid(field, port.strval(), not_port_name(port.strval()));
  } else {
    check.port(field, port.intval());
  }
}

void check_probe(Checker& check, const std::string& path, const k8s::Probe& probe, bool only_one_success) {
  const k8s::ProbeHandler& handler = probe.handler();
  const int handlers = handler.has_exec() + handler.has_httpget() + handler.has_tcpsocket() + handler.has_grpc();
  if (handlers == 0) check.required(path, "must specify a handler type");
  if (handlers > 1) check.forbidden(path, "may not specify more than 1 handler type");
  if (handler.has_exec() && handler.exec().command().empty()) check.required(path + ".exec.command");
  if (handler.has_httpget()) {
    const k8s::HTTPGetAction& get = handler.httpget();
    check_action_port(check, path + ".httpGet.port", get.port());
    check.one_of(path + ".httpGet.scheme", get.scheme(), {"HTTP", "HTTPS"});
  }
  if (handler.has_grpc()) check.port(path + ".grpc.port", handler.grpc().port());
  if (handler.has_tcpsocket()) check_action_port(check, path + ".tcpSocket.port", handler.tcpsocket().port());
  check.at_least(path + ".initialDelaySeconds", probe.initialdelayseconds(), 0);
  check.at_least(path + ".timeoutSeconds", probe.timeoutseconds(), 1);
  check.at_least(path + ".periodSeconds", probe.periodseconds(), 1);
  check.at_least(path + ".successThreshold", probe.successthreshold(), 1);
  check.at_least(path + ".failureThreshold", probe.failurethreshold(), 1);
  if (only_one_success && probe.successthreshold() > 1) {
    check.invalid(path + ".successThreshold", probe.successthreshold(), "must be 1");
  }
}

// What one pod's containers must not have twice, and what they may refer to.
struct Shared {
  const Volumes& volumes;
  bool host_network;
  std::set<std::string> names;
};

void check_container(Checker& check, const std::string& path, const k8s::Container& container, bool init,
                     Shared& shared) {
  if (container.name().empty()) {
    check.required(path + ".name");
  } else {
    check.invalid(path + ".name", container.name(), not_dns_label(container.name()));
    if (!shared.names.insert(container.name()).second) check.duplicate(path + ".name", container.name());
  }
  if (container.image().empty()) {
    check.required(path + ".image");
  } else if (container.image().find_first_of(" \t\n") != std::string::npos) {
    check.invalid(path + ".image", container.image(), "must not have white space");
  }
  check.one_of(path + ".imagePullPolicy", container.imagepullpolicy(), {"Always", "IfNotPresent", "Never"});
  check.one_of(path + ".terminationMessagePolicy", container.terminationmessagepolicy(),
               {"FallbackToLogsOnError", "File"});

  std::set<std::string> port_names;
  for (int i = 0; i < container.ports_size(); ++i) {
    const k8s::ContainerPort& port = container.ports(i);
    const std::string where = at(path + ".ports", i);
    if (!port.name().empty()) {
      check.invalid(where + ".name", port.name(), not_port_name(port.name()));
      if (!port_names.insert(port.name()).second) check.duplicate(where + ".name", port.name());
    }
    if (port.containerport() == 0) {
      check.required(where + ".containerPort");
    } else {
      check.port(where + ".containerPort", port.containerport());
    }
    if (port.hostport() != 0) check.port(where + ".hostPort", port.hostport());
    if (shared.host_network && port.hostport() != port.containerport()) {
      check.invalid(where + ".hostPort", port.hostport(), "must match `containerPort` when `hostNetwork` is true");
    }
    check.one_of(where + ".protocol", port.protocol(), {"SCTP", "TCP", "UDP"});
  }

  check_env(check, path, container);
  check_resources(check, path + ".resources", container.resources());

  std::set<std::string> paths;
  for (int i = 0; i < container.volumemounts_size(); ++i) {
    const k8s::VolumeMount& mount = container.volumemounts(i);
    const std::string where = at(path + ".volumeMounts", i);
    if (mount.name().empty()) {
      check.required(where + ".name");
    } else if (!shared.volumes.contains(mount.name())) {
      check.not_found(where + ".name", mount.name());
    }
    if (mount.mountpath().empty()) check.required(where + ".mountPath");
    if (!paths.insert(mount.mountpath()).second)
      check.invalid(where + ".mountPath", mount.mountpath(), "must be unique");
    check_relative(check, where + ".subPath", mount.subpath());
    if (!mount.subpathexpr().empty() && !mount.subpath().empty()) {
      check.invalid(where + ".subPathExpr", mount.subpathexpr(), "subPathExpr and subPath are mutually exclusive");
    }
    check_relative(check, where + ".subPathExpr", mount.subpathexpr());
  }

  const auto probe = [&](const char* name, bool has, const k8s::Probe& each, bool only_one_success) {
    if (!has) return;
    if (init && container.restartpolicy() != "Always") {
      check.forbidden(path + "." + name, "may not be set for init containers without restartPolicy=Always");
    }
    check_probe(check, path + "." + name, each, only_one_success);
  };
  probe("livenessProbe", container.has_livenessprobe(), container.livenessprobe(), true);
  probe("readinessProbe", container.has_readinessprobe(), container.readinessprobe(), false);
  probe("startupProbe", container.has_startupprobe(), container.startupprobe(), true);
}

}  // namespace

FieldErrors validate_pod(const k8s::Pod& pod) {
  const k8s::PodSpec& spec = pod.spec();
  Checker check;
  check.meta(pod.metadata(), not_dns_subdomain);
  const Volumes volumes = check_volumes(check, spec);
  Shared shared{volumes, spec.hostnetwork(), {}};
  if (spec.containers().empty()) check.required("spec.containers");
  for (int i = 0; i < spec.initcontainers_size(); ++i) {
    check_container(check, at("spec.initContainers", i), spec.initcontainers(i), true, shared);
    check_container_rules(check, at("spec.initContainers", i), spec, spec.initcontainers(i));
  }
  for (int i = 0; i < spec.containers_size(); ++i) {
    check_container(check, at("spec.containers", i), spec.containers(i), false, shared);
    check_container_rules(check, at("spec.containers", i), spec, spec.containers(i));
  }
  check.one_of("spec.restartPolicy", spec.restartpolicy(), {"Always", "OnFailure", "Never"});
  check.at_least("spec.terminationGracePeriodSeconds", spec.terminationgraceperiodseconds(), 0);
  if (spec.has_activedeadlineseconds()) check.at_least("spec.activeDeadlineSeconds", spec.activedeadlineseconds(), 1);
  const auto label = [&](const std::string& field, const std::string& value, Checker::NameRule rule) {
    if (!value.empty()) check.invalid(field, value, rule(value));
  };
  label("spec.nodeName", spec.nodename(), not_dns_subdomain);
  label("spec.serviceAccountName", spec.serviceaccountname(), not_dns_subdomain);
  check_names(check, spec);
  check_spec_rules(check, spec);
  return check.take();
}

}  // namespace fairlead::kube
