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
#include "agent/model/rows.h"
#include "agent/pods/volumes/payload.h"

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

struct FilesPlan {
  bool secret = false;  // kept in memory
  Payload payload;
};

struct VolumePlan {
  std::string name;
  std::variant<EmptyDirPlan, HostPathPlan, FilesPlan> source;
};

struct PodVolumes {
  std::vector<VolumePlan> volumes;
  std::optional<gid_t> fs_group;  // owns emptyDir, ConfigMap and Secret volumes
};

enum class ConfigKind { kConfigMap, kSecret };
// The row of "namespace/name", or nullptr.
using ConfigLookup = std::function<std::shared_ptr<const model::ConfigData>(ConfigKind, const std::string& key)>;

// Errors name the volume: kNotFound for an absent object or key that is not optional (worth another try when it comes),
// kInvalid for what we cannot or will not do.
Result<PodVolumes> plan_volumes(const k8s::Pod& pod, const ConfigLookup& lookup);

}  // namespace fairlead::pods
