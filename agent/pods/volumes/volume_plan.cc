// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/volumes/volume_plan.h"

#include <k8s/pod.pb.h>

#include <algorithm>
#include <array>

#include "agent/kube/codec/quantity.h"
#include "agent/pods/volumes/files.h"

namespace fairlead::pods {

namespace {

constexpr std::array<std::string_view, 8> kHostPathTypes = {
    "", "DirectoryOrCreate", "Directory", "FileOrCreate", "File", "Socket", "CharDevice", "BlockDevice"};

Result<EmptyDirPlan> plan_empty_dir(const k8s::EmptyDirVolumeSource& source) {
  EmptyDirPlan plan;
  plan.memory = source.medium() == "Memory";
  if (!plan.memory && !source.medium().empty()) {
    return fail(Code::kInvalid, "emptyDir.medium: '{}' is not supported", source.medium());
  }
  if (source.has_sizelimit()) {
    FL_LET(const auto limit, kube::Quantity::parse(source.sizelimit().string()));
    if (limit.units() > 0) plan.size = limit.units();
  }
  if (source.has_mode()) plan.mode = static_cast<mode_t>(source.mode());
  return plan;
}

Result<HostPathPlan> plan_host_path(const k8s::HostPathVolumeSource& source) {
  if (!source.path().starts_with('/'))
    return fail(Code::kInvalid, "hostPath.path: '{}' is not absolute", source.path());
  if (std::ranges::find(kHostPathTypes, source.type()) == kHostPathTypes.end()) {
    return fail(Code::kInvalid, "hostPath.type: '{}' is no type", source.type());
  }
  return HostPathPlan{source.path(), source.type()};
}

// ConfigMap and Secret alike: `items` or every key.
template <class Source>
Result<FilesPlan> plan_files(ConfigKind kind, const Source& source, const std::string& key, bool group_reads,
                             const ConfigLookup& lookup) {
  const std::string_view word = kind == ConfigKind::kSecret ? "secret" : "configMap";
  FilesPlan plan{kind == ConfigKind::kSecret, {}};
  const auto object = lookup(kind, key);
  if (!object) {
    if (source.optional()) return plan;
    return fail(Code::kNotFound, "{} {} does not exist", word, key);
  }
  const auto mode_of = [&](bool has, std::int32_t own) {
    const auto mode = static_cast<mode_t>(has ? own : source.has_defaultmode() ? source.defaultmode() : 0644);
    return group_reads ? mode | 0440 : mode;
  };
  if (source.items().empty()) {
    for (const auto& [name, data] : object->data) {
      FL_LET(const auto path, checked_item_path(name));
      plan.payload[path] = {data, mode_of(false, 0)};
    }
  }
  for (const auto& item : source.items()) {
    FL_LET(const auto path, checked_item_path(item.path()));
    const auto found = object->data.find(item.key());
    if (found != object->data.end()) {
      plan.payload[path] = {found->second, mode_of(item.has_mode(), item.mode())};
    } else if (!source.optional()) {
      return fail(Code::kNotFound, "{} {} has no key '{}'", word, key, item.key());
    }
  }
  return plan;
}

Result<decltype(VolumePlan::source)> plan_source(const k8s::Volume& volume, const std::string& ns, bool group_reads,
                                                 const ConfigLookup& lookup) {
  const auto& source = volume.volumesource();
  if (source.has_emptydir() || source.ByteSizeLong() == 0) return plan_empty_dir(source.emptydir());
  if (source.has_hostpath()) return plan_host_path(source.hostpath());
  if (source.has_configmap()) {
    const auto& map = source.configmap();
    return plan_files(ConfigKind::kConfigMap, map, ns + "/" + map.localobjectreference().name(), group_reads, lookup);
  }
  if (source.has_secret()) {
    const auto& secret = source.secret();
    return plan_files(ConfigKind::kSecret, secret, ns + "/" + secret.secretname(), group_reads, lookup);
  }
  return fail(Code::kInvalid, "this kind of volume is not supported");
}

}  // namespace

Result<PodVolumes> plan_volumes(const k8s::Pod& pod, const ConfigLookup& lookup) {
  PodVolumes plan;
  if (pod.spec().securitycontext().has_fsgroup()) {
    plan.fs_group = static_cast<gid_t>(pod.spec().securitycontext().fsgroup());
  }
  for (const auto& volume : pod.spec().volumes()) {
    if (!is_plain_name(volume.name())) return fail(Code::kInvalid, "volume '{}': no name for a folder", volume.name());
    auto source = plan_source(volume, pod.metadata().namespace_(), plan.fs_group.has_value(), lookup);
    if (!source) return fail_with(std::move(source).error(), fmt::format("volume '{}'", volume.name()));
    plan.volumes.push_back({volume.name(), std::move(*source)});
  }
  return plan;
}

}  // namespace fairlead::pods
