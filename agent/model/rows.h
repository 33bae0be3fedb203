// SPDX-License-Identifier: Apache-2.0
// The records that edges project API objects into and that domains read out of state tables: compact, immutable,
// without protobuf on the way, except for Pod and what it mounts, which the pods domain needs whole.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "agent/base/balancing.h"
#include "agent/base/clock.h"
#include "agent/base/ip.h"
#include "agent/model/selector.h"

namespace k8s {
class Pod;
class PodStatus;
}  // namespace k8s

namespace fairlead::model {

// Who an object is. Rows other than pods are keyed by "namespace/name" (`key()`), pods by uid.
struct ObjectId {
  std::string ns;
  std::string name;
  std::string uid;
  std::string key() const { return ns + "/" + name; }
  auto operator<=>(const ObjectId&) const = default;
};

// A target port: a number, or the name of a container port, resolved per pod.
using TargetPort = std::variant<std::uint16_t, std::string>;

struct ServicePort {
  std::string name;
  std::uint16_t port = 0;
  Protocol protocol = Protocol::kTcp;
  TargetPort target = std::uint16_t{0};
  std::uint16_t node_port = 0;  // 0: none
  auto operator<=>(const ServicePort&) const = default;
};

// ipFamilyPolicy: whether a Service has addresses of families beyond the ones that it names, where the node has more.
enum class FamilyPolicy { kSingleStack, kPreferDualStack, kRequireDualStack };

// trafficDistribution: which endpoints a client prefers while there are any. PreferClose is kSameZone's older name.
enum class TrafficDistribution { kAll, kSameZone, kSameNode };

enum class ServiceType { kClusterIp, kNodePort, kLoadBalancer, kExternalName };

struct Service {
  ObjectId id;
  ServiceType type = ServiceType::kClusterIp;
  bool headless = false;     // clusterIP: None
  bool other_proxy = false;  // by label: another proxy serves it, and this one leaves it alone
  std::vector<IpAddress> cluster_ips;
  std::vector<Family> families;  // as ipFamilies says, first is primary
  std::vector<ServicePort> ports;
  Labels selector;                       // empty: endpoints are written by others
  std::uint32_t affinity_timeout_s = 0;  // 0: no session affinity
  bool publish_not_ready = false;
  FamilyPolicy family_policy = FamilyPolicy::kSingleStack;
  bool internal_local = false;  // internalTrafficPolicy: Local
  TrafficDistribution distribution = TrafficDistribution::kAll;
  std::optional<Balancing> balancing;  // by annotation
  std::map<std::string, std::uint32_t>
      zone_weights;                 // by annotation: what a backend of the zone weighs; 0 … kMaxWeight
  std::vector<std::string> unread;  // annotations of ours and fields that are without effect here, and why
  auto operator<=>(const Service&) const = default;
};

struct Endpoint {
  IpAddress address;
  bool ready = true;
  bool serving = true;
  bool terminating = false;
  std::string node;
  std::string zone;
  std::string target_uid;               // of the pod behind it, or empty
  std::vector<std::string> zone_hints;  // zones whose clients shall prefer it …
  std::vector<std::string> node_hints;  // … and nodes; ascending
  auto operator<=>(const Endpoint&) const = default;
};

struct EndpointPort {
  std::string name;
  std::uint16_t port = 0;
  Protocol protocol = Protocol::kTcp;
  auto operator<=>(const EndpointPort&) const = default;
};

struct EndpointSlice {
  ObjectId id;
  std::string service;  // name of the owning Service, in id.ns
  Family family = Family::kV4;
  std::vector<EndpointPort> ports;
  std::vector<Endpoint> endpoints;
  std::string service_key() const { return id.ns + "/" + service; }
  auto operator<=>(const EndpointSlice&) const = default;
};

inline constexpr auto kZoneLabel = "topology.kubernetes.io/zone";
// The zone that a node's labels name, or empty.
inline std::string zone_of(const Labels& labels) {
  const auto zone = labels.find(kZoneLabel);
  return zone == labels.end() ? "" : zone->second;
}

// A pod that this node is asked to run. Key: uid. The row's absence asks for its graceful deletion.
struct Pod {
  ObjectId id;
  std::shared_ptr<const k8s::Pod> object;  // defaulted and valid
  std::string source;                      // "api" or the manifest's path
  // deletionTimestamp is set: end it within this many seconds.
  std::optional<std::int64_t> deletion_grace_s;
};

// ConfigMap or Secret: what volumes and env take from it. Key: "namespace/name".
struct ConfigData {
  ObjectId id;
  std::map<std::string, std::string> data;  // text and binary alike, decoded
  // The API server was asked for it and has none: what an optional reference waits for. It has no uid and no data.
  bool absent = false;
};

// What this agent knows at first hand of a pod that it runs. Written by the pods domain, read by services (backends)
// and by the status writers. Key: uid. Erased when nothing of the pod is left.
struct LocalPod {
  ObjectId id;
  Labels labels;
  std::vector<IpAddress> ips;  // empty until the sandbox has its network
  std::map<std::string, std::pair<std::uint16_t, Protocol>> named_ports;
  bool host_network = false;
  bool ready = false;        // the pod's Ready condition, gates included
  bool serving = false;      // as ready, but kept while terminating
  bool terminating = false;  // to be drained: SIGTERM follows once this is in the maps
  bool terminal = false;     // Succeeded or Failed: no endpoint at all
  auto operator<=>(const LocalPod&) const = default;
};

// A network namespace that the data path serves: a pod's, or the node's own (key "node"). Written by the network
// domain.
struct ServedNetns {
  std::uint64_t cookie = 0;
  std::string path;  // empty: it exists, but nobody knows a way in any more
  std::vector<IpAddress> addresses;
  std::uint32_t ifindex = 0;  // host side of the pod's device; 0: the node's own
  ObjectId pod;               // empty for the node, and where a runtime did not say
  auto operator<=>(const ServedNetns&) const = default;
};

// A pod's status as the API shall see it. From the pods domain to whoever reports it.
struct PodStatusUpdate {
  ObjectId id;
  std::shared_ptr<const k8s::PodStatus> status;
  std::string source;     // Pod::source
  bool finished = false;  // nothing of the pod is left: its API object may go
  using Key = std::string;
  const std::string& key() const { return id.uid; }
};

enum class ConfigKind { kConfigMap, kSecret };

// A ConfigMap or Secret that a pod here uses, or uses no longer: from the pods domain to an API server's edge, which
// reads the object, alone and by name, while it is wanted.
struct ConfigWant {
  ConfigKind kind = ConfigKind::kConfigMap;
  std::string object;  // "namespace/name"
  bool wanted = true;
  using Key = std::pair<ConfigKind, std::string>;
  Key key() const { return {kind, object}; }
};

// A token asked of the API server for a pod's service account, bound to that pod (TokenRequest).
struct TokenAsk {
  ObjectId pod;
  std::string service_account;
  std::vector<std::string> audiences;  // empty: the API server's own
  std::int64_t expiration_s = 3600;
};
struct ServiceAccountToken {
  std::string token;
  WallTime expires;
};

// What happened to an object, for `kubectl describe`. Equal ones are counted, here and by whoever tells them.
struct EventNote {
  ObjectId involved;
  std::string kind = "Pod";
  std::string field_path;  // "spec.containers{web}", or empty
  bool warning = false;
  std::string reason;  // empty: no Event, but the word that nothing more is told of the object, which is gone
  std::string message;
  WallTime at;              // the last time
  std::uint32_t count = 1;  // how often
  using Key = std::string;
  Key key() const { return involved.uid + '\n' + field_path + '\n' + reason + '\n' + message; }
  void merge(EventNote&& next) {
    count += next.count;
    at = next.at;
  }
};

// A pod that the API server did not send, and that it shall show by a mirror. `object` is null once the pod is gone.
// One without a uid says that every static pod that was there at the start has been told: from now on a mirror that
// nobody named has lost its pod.
struct StaticPod {
  ObjectId id;
  std::shared_ptr<const k8s::Pod> object;
  using Key = std::string;
  const std::string& key() const { return id.uid; }
};

// A Node object: what the cluster decided about a node. Key: name. One table holds this node's own, another all nodes.
struct Node {
  std::string name;
  std::string uid;
  Labels labels;
  std::vector<Cidr> pod_cidrs;         // empty: none is given to it (yet)
  std::vector<IpAddress> addresses{};  // InternalIPs, the primary one first
  auto operator<=>(const Node&) const = default;
};

// The label that every Namespace has, and its name in it.
inline constexpr auto kNamespaceNameLabel = "kubernetes.io/metadata.name";

// Key: name.
struct Namespace {
  std::string name;
  Labels labels;
  auto operator<=>(const Namespace&) const = default;
};

// A port that a pod's containers name.
struct NamedPort {
  std::string name;
  Protocol protocol = Protocol::kTcp;
  std::uint16_t port = 0;
  auto operator<=>(const NamedPort&) const = default;
};

// Any pod of the cluster, as others meet it. Key: uid.
struct PeerPod {
  ObjectId id;
  Labels labels;
  std::vector<IpAddress> ips;            // none: not known yet, or given back (Succeeded, Failed)
  std::vector<NamedPort> named_ports{};  // ascending
  bool host_network = false;
  std::string node{};
  auto operator<=>(const PeerPod&) const = default;
};

// Ports of a rule. monostate: all of the protocol.
struct PolicyPort {
  Protocol protocol = Protocol::kTcp;
  std::variant<std::monostate, std::uint16_t, std::string> port;
  std::uint16_t end = 0;  // with a number: the last of a range; 0: only that one
  auto operator<=>(const PolicyPort&) const = default;
};

struct IpBlock {
  Cidr cidr;
  std::vector<Cidr> except{};  // ascending
  auto operator<=>(const IpBlock&) const = default;
};

// Pods by their labels: in the policy's own namespace where `namespaces` is absent, else in all that it selects; or
// whoever has an address in `block`.
struct PolicyPeer {
  std::optional<Selector> namespaces{};
  Selector pods{};
  std::optional<IpBlock> block{};
  auto operator<=>(const PolicyPeer&) const = default;
};

// Allows these ports with these peers. A list that the API left empty stands for all; one of which we could read
// nothing stands for none.
struct PolicyRule {
  bool any_port = false;
  std::vector<PolicyPort> ports{};
  bool any_peer = false;
  std::vector<PolicyPeer> peers{};
  auto operator<=>(const PolicyRule&) const = default;
};

struct NetworkPolicy {
  ObjectId id;
  Selector pods;                 // of its namespace: they are isolated in the directions below
  bool isolates_ingress = true;  // policyTypes
  bool isolates_egress = false;
  std::vector<PolicyRule> ingress{};
  std::vector<PolicyRule> egress{};
  std::vector<std::string> unread{};  // parts that this release cannot read, so that they allow nothing, and why
  auto operator<=>(const NetworkPolicy&) const = default;
};

// Which rules hold for a pod of this node, once they are in the maps. Key: the pod's uid. Written by the policy domain,
// for every pod of this node whether or not a policy selects it; read by the network domain, which gives no pod its
// network before it has this row, and keeps the last one while the pod is there.
struct PodPolicy {
  ObjectId pod;
  std::uint32_t ingress_rules = 0;  // a rule set in the maps; 0: not isolated in this direction
  std::uint32_t egress_rules = 0;
  std::uint64_t revision = 0;  // grows whenever open connections of the pod must be judged again
  auto operator<=>(const PodPolicy&) const = default;
};

// A port of this node that is passed on to one of its pods (CNI capability portMappings, containerPort.hostPort).
// Written by the network domain, read by the services domain. Key: "container/ifname:address:port/protocol".
struct HostPort {
  ObjectId pod;
  Protocol protocol = Protocol::kTcp;
  std::optional<IpAddress> host_address;  // none: every address of the node, of the pod's families
  std::uint16_t host_port = 0;
  std::uint16_t container_port = 0;
  std::vector<IpAddress> pod_addresses;
  auto operator<=>(const HostPort&) const = default;
};

// How far one consumer of a table has carried changes out ("services has LocalPod rows up to here in the maps").
struct Applied {
  std::string consumer;
  std::uint64_t revision = 0;                 // every change up to it is in force, or its key is in `failed`
  std::map<std::string, std::string> failed;  // LocalPod uid → why it is not in force
  using Key = std::string;
  const std::string& key() const { return consumer; }
};

}  // namespace fairlead::model
