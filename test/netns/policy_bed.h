// SPDX-License-Identifier: Apache-2.0
// PolicyBed: a NodesBed whose agents have their objects from a real API server (etcd and kube-apiserver, no
// controllers), so that each node knows the pods of the other by their labels, and policies as the API server took
// them.
//
// The API server is in the test's own network namespace, at 192.0.2.2 of the LAN. Pods are objects with the addresses
// that CNI gave them; nobody but the test tells of them.
#pragma once

#include <k8s/networkpolicy.pb.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "test/kit/control_plane.h"
#include "test/netns/nodes_bed.h"

namespace fairlead::testkit {

using Labels = std::map<std::string, std::string>;

struct NamedPort {
  std::string name;
  std::string protocol;  // "TCP"
  std::uint16_t number = 0;
};

// Owner: the test suite, whose process has entered namespaces of its own (enter_node_namespace).
class PolicyBed {
 public:
  // Two nodes with their agents, synced. `flags`: of every agent.
  static Result<std::unique_ptr<PolicyBed>> make(const std::string& name, std::vector<std::string> flags);
  ~PolicyBed();

  BedNode& node(unsigned number) { return bed_->node(number); }
  const NodesBed& bed() const { return *bed_; }

  Result<> create_namespace(const std::string& name, const Labels& labels = {});
  Result<> set_namespace_labels(const std::string& name, const Labels& labels);
  // A pod "namespace/name" with its object, its network, and an Observer on port 8080. Its status tells its addresses
  // before this returns.
  Result<> add_pod(unsigned node, const std::string& key, const Labels& labels, std::vector<NamedPort> ports = {});
  // The object alone: what the runtime asks of CNI comes by attach_pod(). Gives its uid.
  Result<std::string> create_pod(unsigned node, const std::string& key, const Labels& labels,
                                 const std::vector<NamedPort>& ports = {});
  // Its network, in a namespace that may be full of life already; returns once CNI has said yes.
  Result<> attach_pod(unsigned node, const std::string& key, const std::string& uid, PodNetns netns);
  const BedPod& pod(const std::string& key) const { return *pods_.at(key); }
  const std::map<std::string, std::unique_ptr<BedPod>>& pods() const { return pods_; }
  Result<> set_labels(const std::string& key, const Labels& labels);

  // `spec` as JSON or YAML, of NetworkPolicy "namespace/name".
  Result<> apply_policy(const std::string& key, const std::string& spec);
  // The same of a message, which the API server takes as protobuf.
  Result<> put_policy(const std::string& key, const k8s::NetworkPolicy& policy);
  Result<> delete_policy(const std::string& key);
  // A Service in namespace default with one port, whose endpoints are these pods' ports kPodPort.
  Result<> add_service(const std::string& name, const std::vector<IpAddress>& addresses, std::uint16_t port,
                       const std::vector<std::string>& pods);

  // Once the agents of both nodes say so by their maps (fairleadctl policy trace), within 30 s.
  bool says(const std::string& from, const std::string& to, const std::string& port, bool allowed);
  // Packets that a node's programs counted under a drop reason.
  std::uint64_t drops(unsigned node, const std::string& reason) const;

  ControlPlane& plane() { return *plane_; }
  // Sends JSON and wants a status of 2xx.
  Result<Json> send(const std::string& method, const std::string& path, const Json& body,
                    const std::string& type = "application/json");

 private:
  PolicyBed() = default;
  Result<> start_plane(const NodesBed& bed);

  std::optional<ControlPlane> plane_;
  std::unique_ptr<NodesBed> bed_;
  std::map<std::string, std::unique_ptr<BedPod>> pods_;
};

}  // namespace fairlead::testkit
