// SPDX-License-Identifier: Apache-2.0
// What a pod is called by itself: its host name and domain, and its hosts file, by kubelet's rules. Pure.
#pragma once

#include <string>
#include <vector>

#include "agent/base/ip.h"
#include "agent/base/result.h"

namespace k8s {
class Pod;
}

namespace fairlead::pods {

struct PodName {
  std::string host;    // at most 63 characters, cut where it is longer
  std::string domain;  // "SUBDOMAIN.NAMESPACE.svc.CLUSTER_DOMAIN"; empty: it is in none
};

// hostnameOverride, which stands alone; else hostname or the pod's name, in the subdomain if there is one.
PodName pod_name(const k8s::Pod& pod, const std::string& cluster_domain);

// What the pod's kernel calls it: the host name, or all of it with setHostnameAsFQDN. kInvalid: that is longer than the
// kernel's 64 characters.
Result<std::string> kernel_host_name(const k8s::Pod& pod, const std::string& cluster_domain);

// kubelet's file: loopback and IPv6 names, then the pod's addresses by its names; on the host's network `node_hosts`,
// which is the node's file. Then the pod's hostAliases.
std::string hosts_file(const k8s::Pod& pod, const std::string& cluster_domain, const std::vector<IpAddress>& ips,
                       const std::string& node_hosts);

}  // namespace fairlead::pods
