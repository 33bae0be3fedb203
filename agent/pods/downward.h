// SPDX-License-Identifier: Apache-2.0
// The downward API: what a pod may read of itself, in its environment and in files. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "agent/base/ip.h"
#include "agent/base/result.h"

namespace k8s {
class Pod;
class ResourceFieldSelector;
}  // namespace k8s

namespace fairlead::pods {

// What the node offers to pods; a limit that is not set reads as this.
struct Allocatable {
  std::int64_t cpu_milli = 0;
  std::int64_t memory_bytes = 0;
  std::int64_t ephemeral_bytes = 0;
};

struct DownwardFacts {
  std::vector<IpAddress> pod_ips;
  std::vector<IpAddress> node_ips;
  std::string node_name;
  Allocatable allocatable;
};

// A field that a file may show: of the pod's metadata. All labels (annotations) are lines of key="value", sorted.
// kInvalid: there is no such field.
Result<std::string> metadata_field(const k8s::Pod& pod, const std::string& path);

// A field that a variable may show: as above, and of the node, the addresses and the service account.
Result<std::string> env_field(const k8s::Pod& pod, const DownwardFacts& facts, const std::string& path);

// A container's limit or request in units of the divisor, rounded up. `own` is the container that asks, for a selector
// that names none.
Result<std::string> resource_field(const k8s::Pod& pod, const k8s::ResourceFieldSelector& selector,
                                   const std::string& own, const Allocatable& allocatable);

}  // namespace fairlead::pods
