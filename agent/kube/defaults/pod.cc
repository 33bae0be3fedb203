// SPDX-License-Identifier: Apache-2.0
#include <k8s/pod.pb.h>

#include "agent/kube/codec/quantity.h"
#include "agent/kube/defaults/defaults.h"

namespace fairlead::kube {
namespace {

// Sets a field that is unset or, for strings, empty: the API does not tell these apart.
#define FL_DEFAULT(message, field, value) \
  if ((message).field() == std::decay_t<decltype((message).field())>{}) (message).set_##field(value)

void default_http_get(k8s::HTTPGetAction& get) {
  FL_DEFAULT(get, path, "/");
  FL_DEFAULT(get, scheme, "HTTP");
}

// What an environment variable and a file of the downward API have in common.
void default_sources(auto& from) {
  if (from.has_fieldref()) FL_DEFAULT(*from.mutable_fieldref(), apiversion, "v1");
  if (from.has_resourcefieldref() && from.resourcefieldref().divisor().string().empty()) {
    from.mutable_resourcefieldref()->mutable_divisor()->set_string("0");
  }
}

void default_probe(k8s::Probe& probe) {
  FL_DEFAULT(probe, timeoutseconds, 1);
  FL_DEFAULT(probe, periodseconds, 10);
  FL_DEFAULT(probe, successthreshold, 1);
  FL_DEFAULT(probe, failurethreshold, 3);
  k8s::ProbeHandler& handler = *probe.mutable_handler();
  if (handler.has_httpget()) default_http_get(*handler.mutable_httpget());
  if (handler.has_grpc() && !handler.grpc().has_service()) handler.mutable_grpc()->set_service("");
}

void default_hook(k8s::LifecycleHandler& hook) {
  if (hook.has_httpget()) default_http_get(*hook.mutable_httpget());
}

// CPU and the like are kept in thousandths: finer amounts are rounded up.
void round_resources(google::protobuf::Map<std::string, k8s::Quantity>& resources) {
  for (auto& [name, amount] : resources) {
    const auto exact = Quantity::parse(amount.string());
    if (exact && exact->rounded_to_milli() != *exact) amount.set_string(exact->rounded_to_milli().str());
  }
}

void default_resources(k8s::ResourceRequirements& resources) {
  round_resources(*resources.mutable_limits());
  round_resources(*resources.mutable_requests());
  for (const auto& [name, limit] : resources.limits()) {
    if (!resources.requests().contains(name)) (*resources.mutable_requests())[name] = limit;
  }
}

void default_container(k8s::Container& container, bool host_network) {
  FL_DEFAULT(container, imagepullpolicy, default_pull_policy(container.image()));
  FL_DEFAULT(container, terminationmessagepath, "/dev/termination-log");
  FL_DEFAULT(container, terminationmessagepolicy, "File");
  for (k8s::ContainerPort& port : *container.mutable_ports()) {
    FL_DEFAULT(port, protocol, "TCP");
    if (host_network) FL_DEFAULT(port, hostport, port.containerport());
  }
  for (k8s::EnvVar& variable : *container.mutable_env()) {
    if (variable.has_valuefrom()) default_sources(*variable.mutable_valuefrom());
  }
  if (container.has_livenessprobe()) default_probe(*container.mutable_livenessprobe());
  if (container.has_readinessprobe()) default_probe(*container.mutable_readinessprobe());
  if (container.has_startupprobe()) default_probe(*container.mutable_startupprobe());
  if (container.has_lifecycle() && container.lifecycle().has_poststart()) {
    default_hook(*container.mutable_lifecycle()->mutable_poststart());
  }
  if (container.has_lifecycle() && container.lifecycle().has_prestop()) {
    default_hook(*container.mutable_lifecycle()->mutable_prestop());
  }
  default_resources(*container.mutable_resources());
}

void default_projected(k8s::ProjectedVolumeSource& projected, std::int32_t file_mode) {
  constexpr std::int64_t kTokenSeconds = 3600;
  if (!projected.has_defaultmode()) projected.set_defaultmode(file_mode);
  for (k8s::VolumeProjection& source : *projected.mutable_sources()) {
    if (source.has_serviceaccounttoken() && !source.serviceaccounttoken().has_expirationseconds()) {
      source.mutable_serviceaccounttoken()->set_expirationseconds(kTokenSeconds);
    }
    if (!source.has_downwardapi()) continue;
    for (auto& item : *source.mutable_downwardapi()->mutable_items()) default_sources(item);
  }
}

void default_volume(k8s::Volume& volume) {
  constexpr std::int32_t kFileMode = 0644;
  k8s::VolumeSource& source = *volume.mutable_volumesource();
  if (source.ByteSizeLong() == 0) source.mutable_emptydir();
  if (source.has_secret() && !source.secret().has_defaultmode()) source.mutable_secret()->set_defaultmode(kFileMode);
  if (source.has_configmap() && !source.configmap().has_defaultmode()) {
    source.mutable_configmap()->set_defaultmode(kFileMode);
  }
  if (source.has_projected()) default_projected(*source.mutable_projected(), kFileMode);
  if (source.has_downwardapi() && !source.downwardapi().has_defaultmode()) {
    source.mutable_downwardapi()->set_defaultmode(kFileMode);
  }
  if (source.has_downwardapi()) {
    for (auto& item : *source.mutable_downwardapi()->mutable_items()) default_sources(item);
  }
  if (source.has_hostpath() && !source.hostpath().has_type()) source.mutable_hostpath()->set_type("");
  if (source.has_image()) {
    FL_DEFAULT(*source.mutable_image(), pullpolicy, default_pull_policy(source.image().reference()));
  }
  if (source.has_ephemeral() && source.ephemeral().has_volumeclaimtemplate()) {
    k8s::PersistentVolumeClaimTemplate& claim = *source.mutable_ephemeral()->mutable_volumeclaimtemplate();
    claim.mutable_metadata();
    FL_DEFAULT(*claim.mutable_spec(), volumemode, "Filesystem");
  }
}

}  // namespace

std::string default_pull_policy(std::string_view image) {
  const std::size_t slash = image.rfind('/');
  const std::string_view last = slash == image.npos ? image : image.substr(slash + 1);
  if (last.find('@') != last.npos) return "IfNotPresent";
  const std::size_t colon = last.rfind(':');
  return colon == last.npos || last.substr(colon + 1) == "latest" ? "Always" : "IfNotPresent";
}

void default_pod(k8s::Pod& pod) {
  k8s::PodSpec& spec = *pod.mutable_spec();
  FL_DEFAULT(spec, restartpolicy, "Always");
  FL_DEFAULT(spec, dnspolicy, "ClusterFirst");
  FL_DEFAULT(spec, schedulername, "default-scheduler");
  if (!spec.has_terminationgraceperiodseconds()) spec.set_terminationgraceperiodseconds(30);
  if (spec.terminationgraceperiodseconds() < 0) spec.set_terminationgraceperiodseconds(1);
  // The older name of the same field.
  if (spec.serviceaccountname().empty() && !spec.serviceaccount().empty()) {
    spec.set_serviceaccountname(spec.serviceaccount());
  }
  if (!spec.has_enableservicelinks()) spec.set_enableservicelinks(true);
  spec.mutable_securitycontext();
  for (k8s::Volume& volume : *spec.mutable_volumes()) default_volume(volume);
  for (k8s::Container& container : *spec.mutable_initcontainers()) default_container(container, spec.hostnetwork());
  for (k8s::Container& container : *spec.mutable_containers()) default_container(container, spec.hostnetwork());
}

}  // namespace fairlead::kube
