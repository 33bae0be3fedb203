// SPDX-License-Identifier: Apache-2.0
#include <k8s/pod.pb.h>

#include "agent/kube/codec/quantity.h"
#include "agent/kube/defaults/defaults.h"

namespace fairlead::kube {
namespace {

// Sets a field that is unset or, for strings, empty: the API does not tell these apart.
#define FL_DEFAULT(message, field, value) \
  if ((message).field() == std::decay_t<decltype((message).field())>{}) (message).set_##field(value)

void default_probe(k8s::Probe& probe) {
  FL_DEFAULT(probe, timeoutseconds, 1);
  FL_DEFAULT(probe, periodseconds, 10);
  FL_DEFAULT(probe, successthreshold, 1);
  FL_DEFAULT(probe, failurethreshold, 3);
  if (!probe.handler().has_httpget()) return;
  k8s::HTTPGetAction& get = *probe.mutable_handler()->mutable_httpget();
  FL_DEFAULT(get, path, "/");
  FL_DEFAULT(get, scheme, "HTTP");
}

// CPU and the like are kept in thousandths: finer amounts are rounded up.
void round_resources(google::protobuf::Map<std::string, k8s::Quantity>& resources) {
  for (auto& [name, amount] : resources) {
    const auto exact = Quantity::parse(amount.string());
    if (exact && *exact > Quantity::from_milli(exact->milli() - 1) && *exact != Quantity::from_milli(exact->milli())) {
      amount.set_string(Quantity::from_milli(exact->milli()).str());
    }
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
    if (!variable.has_valuefrom() || !variable.valuefrom().has_fieldref()) continue;
    FL_DEFAULT(*variable.mutable_valuefrom()->mutable_fieldref(), apiversion, "v1");
  }
  if (container.has_livenessprobe()) default_probe(*container.mutable_livenessprobe());
  if (container.has_readinessprobe()) default_probe(*container.mutable_readinessprobe());
  if (container.has_startupprobe()) default_probe(*container.mutable_startupprobe());
  if (container.has_resources()) default_resources(*container.mutable_resources());
}

void default_volume(k8s::Volume& volume) {
  constexpr std::int32_t kFileMode = 0644;
  k8s::VolumeSource& source = *volume.mutable_volumesource();
  if (source.ByteSizeLong() == 0) source.mutable_emptydir();
  if (source.has_secret() && !source.secret().has_defaultmode()) source.mutable_secret()->set_defaultmode(kFileMode);
  if (source.has_configmap() && !source.configmap().has_defaultmode()) {
    source.mutable_configmap()->set_defaultmode(kFileMode);
  }
  if (source.has_projected() && !source.projected().has_defaultmode()) {
    source.mutable_projected()->set_defaultmode(kFileMode);
  }
  if (source.has_downwardapi() && !source.downwardapi().has_defaultmode()) {
    source.mutable_downwardapi()->set_defaultmode(kFileMode);
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
  if (!spec.has_enableservicelinks()) spec.set_enableservicelinks(true);
  spec.mutable_securitycontext();
  for (k8s::Volume& volume : *spec.mutable_volumes()) default_volume(volume);
  for (k8s::Container& container : *spec.mutable_initcontainers()) default_container(container, spec.hostnetwork());
  for (k8s::Container& container : *spec.mutable_containers()) default_container(container, spec.hostnetwork());
}

}  // namespace fairlead::kube
