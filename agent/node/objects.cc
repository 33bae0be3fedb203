// SPDX-License-Identifier: Apache-2.0
#include "agent/node/objects.h"

#include "agent/base/timestamp.h"

namespace fairlead::node {
namespace {

Json condition(const char* type, bool status, const std::string& reason, const std::string& message, WallTime now,
               WallTime since) {
  return {{"type", type},
          {"status", status ? "True" : "False"},
          {"reason", reason},
          {"message", message},
          {"lastHeartbeatTime", format_time(to_timestamp(now))},
          {"lastTransitionTime", format_time(to_timestamp(since))}};
}

}  // namespace

Json node_object(const Identity& identity, const MachineFacts& facts) {
  Json labels = {{"kubernetes.io/hostname", identity.name},
                 {"kubernetes.io/os", "linux"},
                 {"kubernetes.io/arch", facts.architecture},
                 {"beta.kubernetes.io/os", "linux"},
                 {"beta.kubernetes.io/arch", facts.architecture}};
  return {
      {"apiVersion", "v1"}, {"kind", "Node"}, {"metadata", {{"name", identity.name}, {"labels", std::move(labels)}}}};
}

Json node_status_patch(const Identity& identity, const MachineFacts& facts, const Health& health, WallTime now,
                       WallTime since) {
  Json addresses = Json::array();
  for (const IpAddress& address : identity.addresses) {
    addresses.push_back({{"type", "InternalIP"}, {"address", address.str()}});
  }
  addresses.push_back({{"type", "Hostname"}, {"address", identity.name}});
  const Json resources = {{"cpu", std::to_string(facts.cpus)},
                          {"memory", fmt::format("{}Ki", facts.memory_bytes / 1024)},
                          {"ephemeral-storage", fmt::format("{}Ki", facts.disk_bytes / 1024)},
                          {"pods", std::to_string(identity.max_pods)}};
  Json conditions = Json::array({
      condition("Ready", health.ready, health.reason, health.message, now, since),
  });
  return {{"status",
           {{"capacity", resources},
            {"allocatable", resources},
            {"addresses", std::move(addresses)},
            {"conditions", std::move(conditions)},
            {"nodeInfo",
             {{"machineID", facts.machine_id},
              {"systemUUID", facts.system_uuid},
              {"bootID", facts.boot_id},
              {"kernelVersion", facts.kernel_version},
              {"osImage", facts.os_image},
              {"containerRuntimeVersion", identity.runtime_version},
              {"kubeletVersion", identity.agent_version},
              {"kubeProxyVersion", identity.agent_version},
              {"operatingSystem", "linux"},
              {"architecture", facts.architecture}}}}}};
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
