// SPDX-License-Identifier: Apache-2.0
// A pod's resolv.conf: what dnsPolicy, dnsConfig, the cluster and the node come to, by kubelet's rules and within its
// limits. Pure; the runtime writes the file.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "agent/base/ip.h"
#include "agent/base/result.h"

namespace k8s {
class Pod;
}

namespace fairlead::pods {

// What the agent is told of DNS.
struct DnsSettings {
  std::vector<IpAddress> cluster_servers;  // empty: policy ClusterFirst falls back to Default
  std::string cluster_domain;              // "cluster.local"; empty: none
  std::string resolv_conf;                 // the node's file; empty: pods of policy Default look nothing up
  bool operator==(const DnsSettings&) const = default;
};

// The lines of a resolv.conf.
struct Resolver {
  std::vector<std::string> servers;
  std::vector<std::string> searches;
  std::vector<std::string> options;  // "ndots:5"
  bool operator==(const Resolver&) const = default;
};

// Of several search lines the last one counts; options are gathered, the last of a name counting. A domain's closing
// dot is dropped. kInvalid: a nameserver line without a server.
Result<Resolver> parse_resolv_conf(std::string_view text);

// A warning that an event is worth.
struct Warning {
  std::string reason;
  std::string message;
  bool operator==(const Warning&) const = default;
};

struct PodDns {
  Resolver resolver;
  std::vector<Warning> warnings;  // what was cut off (DNSConfigForming), or is missing (MissingClusterDNS)
};

// Whether the node's file counts for the pod at all.
bool uses_node_resolver(const k8s::Pod& pod);

// `node`: what the node's file says; empty where the settings name none. At most 3 servers and 32 search paths of 2048
// characters with their spaces, each path of at most 253: what is over is cut from the end.
PodDns pod_dns(const k8s::Pod& pod, const DnsSettings& settings, const Resolver& node,
               const std::vector<IpAddress>& node_ips);

}  // namespace fairlead::pods
