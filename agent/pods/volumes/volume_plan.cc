// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/volumes/volume_plan.h"

#include <k8s/pod.pb.h>

#include <algorithm>
#include <array>

#include "agent/kube/codec/quantity.h"
#include "agent/pods/pod_spec.h"
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

// Fills one volume's payload. Later files of a path replace earlier ones, as kubelet's projections do.
class FilesPlanner {
 public:
  FilesPlanner(const k8s::Pod& pod, const VolumeSources& sources, std::int32_t default_mode)
      : pod_(pod), sources_(sources), default_mode_(static_cast<mode_t>(default_mode)) {
    group_ = pod.spec().securitycontext().has_fsgroup();
    if (const auto user = common_user(pod.spec())) user_ = static_cast<uid_t>(*user);
  }

  // A ConfigMap's or Secret's: `items`, or every key.
  template <class Source>
  Result<> add_object(ConfigKind kind, const Source& source, const std::string& name) {
    FL_LET(const auto object, sources_.config(kind, pod_.metadata().namespace_() + "/" + name));
    if (!object) {
      if (source.optional()) return {};
      return fail(Code::kNotFound, "{} \"{}\" not found", to_string(kind), name);
    }
    if (source.items().empty()) {
      for (const auto& [key, data] : object->data) FL_TRY(add(key, data, default_mode_));
    }
    for (const auto& item : source.items()) {
      FL_TRY(checked_item_path(item.path()));  // whatever is there
      const auto found = object->data.find(item.key());
      if (found != object->data.end()) {
        FL_TRY(add(item.path(), found->second, mode_of(item)));
      } else if (!source.optional()) {
        return fail(Code::kNotFound, "{} \"{}\" has no key '{}'", to_string(kind), name, item.key());
      }
    }
    return {};
  }

  template <class Source>
  Result<> add_downward(const Source& source) {
    for (const auto& item : source.items()) {
      auto value = item.has_fieldref() ? metadata_field(pod_, item.fieldref().fieldpath())
                                       : resource_field(pod_, item.resourcefieldref(), "", sources_.allocatable);
      if (!value) return std::unexpected(std::move(value).error());
      FL_TRY(add(item.path(), std::move(*value), mode_of(item)));
    }
    return {};
  }

  Result<> add_token(const k8s::ServiceAccountTokenProjection& projection) {
    FL_LET(auto token, sources_.token(pod_, projection));
    // Whoever runs may read it, and nobody else where it is known who runs.
    FL_TRY(add(projection.path(), std::move(token), user_ || group_ ? 0600 : default_mode_));
    payload_.at(checked_item_path(projection.path()).value()).user = user_;
    return {};
  }

  Result<> add_projection(const k8s::VolumeProjection& from) {
    if (from.has_serviceaccounttoken()) return add_token(from.serviceaccounttoken());
    if (from.has_downwardapi()) return add_downward(from.downwardapi());
    if (from.has_configmap()) {
      return add_object(ConfigKind::kConfigMap, from.configmap(), from.configmap().localobjectreference().name());
    }
    if (from.has_secret()) {
      return add_object(ConfigKind::kSecret, from.secret(), from.secret().localobjectreference().name());
    }
    return fail(Code::kInvalid, "this kind of projection is not supported");
  }

  Payload take() { return std::move(payload_); }

 private:
  mode_t mode_of(const auto& item) const { return item.has_mode() ? static_cast<mode_t>(item.mode()) : default_mode_; }
  Result<> add(const std::string& path, std::string data, mode_t mode) {
    FL_LET(auto clean, checked_item_path(path));
    payload_[std::move(clean)] = {std::move(data), group_ ? mode | 0440 : mode};
    return {};
  }

  const k8s::Pod& pod_;
  const VolumeSources& sources_;
  mode_t default_mode_;
  bool group_ = false;         // fsGroup reads every file
  std::optional<uid_t> user_;  // whom all containers run as
  Payload payload_;
};

Result<decltype(VolumePlan::source)> plan_source(const k8s::Pod& pod, const k8s::Volume& volume,
                                                 const VolumeSources& sources) {
  constexpr std::int32_t kDefaultMode = 0644;
  const auto& source = volume.volumesource();
  if (source.has_emptydir() || source.ByteSizeLong() == 0) return plan_empty_dir(source.emptydir());
  if (source.has_hostpath()) return plan_host_path(source.hostpath());
  const auto planner = [&](const auto& with_mode) {
    return FilesPlanner(pod, sources, with_mode.has_defaultmode() ? with_mode.defaultmode() : kDefaultMode);
  };
  if (source.has_configmap()) {
    auto files = planner(source.configmap());
    FL_TRY(
        files.add_object(ConfigKind::kConfigMap, source.configmap(), source.configmap().localobjectreference().name()));
    return FilesPlan{FilesKind::kConfigMap, files.take()};
  }
  if (source.has_secret()) {
    auto files = planner(source.secret());
    FL_TRY(files.add_object(ConfigKind::kSecret, source.secret(), source.secret().secretname()));
    return FilesPlan{FilesKind::kSecret, files.take()};
  }
  if (source.has_downwardapi()) {
    auto files = planner(source.downwardapi());
    FL_TRY(files.add_downward(source.downwardapi()));
    return FilesPlan{FilesKind::kDownwardApi, files.take()};
  }
  if (source.has_projected()) {
    auto files = planner(source.projected());
    for (const auto& projection : source.projected().sources()) FL_TRY(files.add_projection(projection));
    return FilesPlan{FilesKind::kProjected, files.take()};
  }
  return fail(Code::kInvalid, "this kind of volume is not supported");
}

}  // namespace

Result<PodVolumes> plan_volumes(const k8s::Pod& pod, const VolumeSources& sources) {
  PodVolumes plan;
  if (pod.spec().securitycontext().has_fsgroup()) {
    plan.fs_group = static_cast<gid_t>(pod.spec().securitycontext().fsgroup());
  }
  for (const auto& volume : pod.spec().volumes()) {
    if (!is_plain_name(volume.name())) return fail(Code::kInvalid, "volume '{}': no name for a folder", volume.name());
    auto source = plan_source(pod, volume, sources);
    if (!source) return fail_with(std::move(source).error(), fmt::format("volume '{}'", volume.name()));
    plan.volumes.push_back({volume.name(), std::move(*source)});
  }
  return plan;
}

}  // namespace fairlead::pods
