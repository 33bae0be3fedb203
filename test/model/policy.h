// SPDX-License-Identifier: Apache-2.0
// NetworkPolicy once more, from the text of the API (networking.k8s.io/v1) and nothing else: for each question all
// policies and pods are looked at. It shares no code with agent/policy.
#pragma once

#include <k8s/networkpolicy.pb.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "agent/base/ip.h"

namespace fairlead::model {

struct PolicyWorld {
  struct Port {
    std::string name;
    std::string protocol;
    std::uint16_t number = 0;
  };
  struct Pod {
    std::string ns;
    std::string name;
    std::map<std::string, std::string> labels;
    std::vector<IpAddress> ips;
    std::vector<Port> ports;
    bool host_network = false;
  };

  std::map<std::string, std::map<std::string, std::string>> namespaces;  // labels, the one of the name included
  std::map<std::string, Pod> pods;                                       // by "namespace/name"
  std::map<std::string, k8s::NetworkPolicy> policies;
  std::vector<IpAddress> node_addresses;  // of the node where the questions are asked

  // Whether `pod` may be reached at its port by `peer`, and whether it may reach a port there. `protocol`: "TCP", …
  bool allows_ingress(const Pod& pod, const IpAddress& peer, const std::string& protocol, std::uint16_t port) const;
  bool allows_egress(const Pod& pod, const IpAddress& peer, const std::string& protocol, std::uint16_t port) const;
  // How many policies select `pod`.
  std::size_t policies_of(const Pod& pod) const;

 private:
  const Pod* pod_at(const IpAddress& address) const;
  bool is_peer(const k8s::NetworkPolicyPeer& peer, const std::string& policy_namespace, const IpAddress& address) const;
};

}  // namespace fairlead::model
