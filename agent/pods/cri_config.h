// SPDX-License-Identifier: Apache-2.0
// What the runtime is asked for, in kubelet's labels and annotations so that crictl reads naturally; and back: what a
// listed sandbox or container says of itself. Pure.
#pragma once

#include <cri/v1.pb.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "agent/pods/env.h"
#include "agent/pods/pod_dns.h"
#include "agent/pods/view.h"

namespace fairlead::pods {

namespace api = ::runtime::v1;

inline constexpr auto kPodNameLabel = "io.kubernetes.pod.name";
inline constexpr auto kPodNamespaceLabel = "io.kubernetes.pod.namespace";
inline constexpr auto kPodUidLabel = "io.kubernetes.pod.uid";
inline constexpr auto kContainerNameLabel = "io.kubernetes.container.name";
inline constexpr auto kOwnerLabel = "fairlead.io/owner";  // whose it is: orphans are only our own
inline constexpr auto kHashAnnotation = "io.kubernetes.container.hash";
inline constexpr auto kRestartCountAnnotation = "io.kubernetes.container.restartCount";
inline constexpr auto kMessagePathAnnotation = "io.kubernetes.container.terminationMessagePath";
inline constexpr auto kMessagePolicyAnnotation = "io.kubernetes.container.terminationMessagePolicy";
inline constexpr auto kPodGraceAnnotation = "io.kubernetes.pod.terminationGracePeriod";
inline constexpr auto kStreakAnnotation = "fairlead.io/crash-streak";
inline constexpr auto kImageAnnotation = "fairlead.io/image";  // as the spec names it: containerd's statuses do not

// What is the same for all pods of this agent.
struct NodeFacts {
  std::string owner;          // value of kOwnerLabel
  std::string log_root;       // "/var/log/pods"
  std::string cgroup_prefix;  // "" or "/name": in front of /kubepods
  std::string pods_dir;       // state folder's pods/, for hosts files and termination logs
  DnsSettings dns;
  std::int64_t memory_bytes = 0;  // the node's, for oom_score_adj
};

// "/kubepods/burstable/pod<uid>" behind the prefix.
std::string cgroup_parent(const NodeFacts& node, const k8s::Pod& pod);
// "<log_root>/<ns>_<name>_<uid>".
std::string log_directory(const NodeFacts& node, const k8s::Pod& pod);
// The state folder's folder of one pod.
std::string pod_dir(const NodeFacts& node, const std::string& uid);
// A file in the pod's folder from when its end has begun, for the agent that comes after this one.
std::string ending_mark(const NodeFacts& node, const std::string& uid);
std::string hosts_path(const NodeFacts& node, const std::string& uid);
std::string message_path(const NodeFacts& node, const std::string& uid, const std::string& container,
                         std::uint32_t attempt);

// `resolver`: the pod's resolv.conf. kInvalid: its host name is longer than a kernel takes.
Result<api::PodSandboxConfig> sandbox_config(const NodeFacts& node, const k8s::Pod& pod, std::uint32_t attempt,
                                             const Resolver& resolver);

struct ContainerInput {
  const NodeFacts& node;
  const k8s::Pod& pod;
  const k8s::Container& container;
  std::uint32_t attempt = 0;
  unsigned streak = 0;
  const api::Image& image;  // its id, and whom it runs as
  const Env& env;
  const std::vector<std::string>& mount_paths;  // on the host, one for each volumeMount, in order, subPath resolved
};
// kInvalid: there is not a path for each mount.
Result<api::ContainerConfig> container_config(const ContainerInput& input);

// Whom a container runs as and what it may: the container's word, else the pod's, else kubelet's defaults.
api::LinuxContainerSecurityContext container_security(const k8s::Pod& pod, const k8s::Container& container,
                                                      const api::Image& image);

// cpu shares, quota, memory limit, oom_score_adj of one container.
api::LinuxContainerResources container_resources(const k8s::Pod& pod, const k8s::Container& container,
                                                 std::int64_t node_memory_bytes);

// Of a list, and so without addresses, times of runs, exit codes, reasons and messages; of a status, and so with them.
SandboxView sandbox_view(const api::PodSandbox& sandbox);
SandboxView sandbox_view(const api::PodSandboxStatus& status);
ContainerView container_view(const api::Container& container);
ContainerView container_view(const api::ContainerStatus& status, const std::string& sandbox_id);
// A sandbox and what is in it, as an event tells.
PodRuntimeView pod_view(const api::ContainerEventResponse& event);

}  // namespace fairlead::pods
