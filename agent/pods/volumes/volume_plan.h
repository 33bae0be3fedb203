// SPDX-License-Identifier: Apache-2.0
// What a pod's volumes are to be: values, made of the pod and of the ConfigMaps and Secrets it names, without I/O.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "agent/base/result.h"
#include "agent/pods/config_use.h"
#include "agent/pods/downward.h"
#include "agent/pods/volumes/payload.h"

namespace k8s {
class Pod;
class ServiceAccountTokenProjection;
}  // namespace k8s

namespace fairlead::pods {

struct EmptyDirPlan {
  bool memory = false;
  std::optional<std::int64_t> size;  // bytes; of a tmpfs
  mode_t mode = 0777;
};

struct HostPathPlan {
  std::string path;
  std::string type;  // of the API: "" is not checked
};

// Named as kubelet names the folders of their plugins.
enum class FilesKind { kConfigMap, kSecret, kDownwardApi, kProjected };

struct FilesPlan {
  FilesKind kind = FilesKind::kConfigMap;
  Payload payload;
  bool in_memory() const { return kind != FilesKind::kConfigMap; }
};

struct VolumePlan {
  std::string name;
  std::variant<EmptyDirPlan, HostPathPlan, FilesPlan> source;
};

struct PodVolumes {
  std::vector<VolumePlan> volumes;
  std::optional<gid_t> fs_group;  // owns everything but host paths
};

// Where files of volumes come from besides the pod's own object.
struct VolumeSources {
  ConfigLookup config;
  // The token that stands for a projection; kUnavailable where there is none.
  std::function<Result<std::string>(const k8s::Pod& pod, const k8s::ServiceAccountTokenProjection&)> token;
  Allocatable allocatable;
};

// Errors name the volume: kNotFound for an absent object or key that is not optional (worth another try when it comes),
// kUnavailable for what is not known or not to be had yet, kInvalid for what we cannot or will not do.
Result<PodVolumes> plan_volumes(const k8s::Pod& pod, const VolumeSources& sources);

}  // namespace fairlead::pods
