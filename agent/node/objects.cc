// SPDX-License-Identifier: Apache-2.0
#include "agent/node/objects.h"

#include <algorithm>

#include "agent/base/timestamp.h"

namespace fairlead::node {
namespace {

// kubelet's default eviction limits, which it keeps back from pods: 100 Mi of memory, a tenth of the disk.
constexpr std::uint64_t kKeptMemory = 100ULL << 20;
constexpr std::uint64_t kKeptDiskShare = 10;

std::string kibibytes(std::uint64_t bytes) {
  return fmt::format("{}Ki", bytes / 1024);
}

Json labels(const Identity& identity, const MachineFacts& facts) {
  Json all{{"kubernetes.io/hostname", identity.name},
           {"kubernetes.io/os", "linux"},
           {"kubernetes.io/arch", facts.architecture},
           {"beta.kubernetes.io/os", "linux"},
           {"beta.kubernetes.io/arch", facts.architecture}};
  for (const auto& [key, value] : identity.labels) all[key] = value;
  return all;
}

}  // namespace

std::uint64_t allocatable_memory(const MachineFacts& facts) {
  std::uint64_t kept = kKeptMemory;
  for (const auto& [page, bytes] : facts.huge_pages) kept += bytes;
  return facts.memory_bytes - std::min(facts.memory_bytes, kept);
}

std::uint64_t allocatable_disk(const MachineFacts& facts) {
  return facts.disk_bytes - facts.disk_bytes / kKeptDiskShare;
}

Json node_object(const Identity& identity, const MachineFacts& facts) {
  return {{"apiVersion", "v1"},
          {"kind", "Node"},
          {"metadata", {{"name", identity.name}, {"labels", labels(identity, facts)}}}};
}

Json missing_labels(const Json& node, const Identity& identity, const MachineFacts& facts) {
  const Json there = node.value(Json::json_pointer("/metadata/labels"), Json::object());
  Json missing;
  const Json wanted = labels(identity, facts);
  for (const auto& [name, value] : wanted.items()) {
    if (there.value(name, "") != value) missing[name] = value;
  }
  return missing;
}

Json node_status(const Identity& identity, const MachineFacts& facts, const RuntimeFacts& runtime) {
  Json addresses = Json::array();
  for (const IpAddress& address : identity.addresses) {
    addresses.push_back({{"type", "InternalIP"}, {"address", address.str()}});
  }
  addresses.push_back({{"type", "Hostname"}, {"address", identity.name}});
  Json capacity = {{"cpu", std::to_string(facts.cpus)},
                   {"memory", kibibytes(facts.memory_bytes)},
                   {"ephemeral-storage", kibibytes(facts.disk_bytes)},
                   {"pods", std::to_string(identity.max_pods)}};
  Json allocatable = capacity;
  for (const auto& [page, bytes] : facts.huge_pages) {
    capacity["hugepages-" + page] = allocatable["hugepages-" + page] = bytes == 0 ? "0" : kibibytes(bytes);
  }
  allocatable["memory"] = kibibytes(allocatable_memory(facts));
  allocatable["ephemeral-storage"] = std::to_string(allocatable_disk(facts));
  Json info = {{"machineID", facts.machine_id},
               {"systemUUID", facts.system_uuid},
               {"bootID", facts.boot_id},
               {"kernelVersion", facts.kernel_version},
               {"osImage", facts.os_image},
               {"containerRuntimeVersion", runtime.version},
               {"kubeletVersion", identity.agent_version},
               {"kubeProxyVersion", ""},  // deprecated, as kubelet writes it
               {"operatingSystem", "linux"},
               {"architecture", facts.architecture}};
  if (facts.swap_bytes != 0) info["swap"] = {{"capacity", facts.swap_bytes}};
  Json status = {{"capacity", std::move(capacity)},   {"allocatable", std::move(allocatable)},
                 {"addresses", std::move(addresses)}, {"nodeInfo", std::move(info)},
                 {"images", runtime.images},          {"runtimeHandlers", runtime.handlers}};
  if (!runtime.features.is_null()) status["features"] = runtime.features;
  return status;
}

Json lease_object(const std::string& node_name, const std::string& node_uid, WallTime now,
                  const std::string& resource_version) {
  Json metadata = {{"name", node_name}, {"namespace", "kube-node-lease"}};
  if (!resource_version.empty()) metadata["resourceVersion"] = resource_version;
  if (!node_uid.empty()) {
    metadata["ownerReferences"] =
        Json::array({{{"apiVersion", "v1"}, {"kind", "Node"}, {"name", node_name}, {"uid", node_uid}}});
  }
  return {{"apiVersion", "coordination.k8s.io/v1"},
          {"kind", "Lease"},
          {"metadata", std::move(metadata)},
          {"spec",
           {{"holderIdentity", node_name},
            {"leaseDurationSeconds", 40},
            {"renewTime", format_micro_time(to_timestamp(now))}}}};
}

}  // namespace fairlead::node
