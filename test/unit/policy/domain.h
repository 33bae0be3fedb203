// SPDX-License-Identifier: Apache-2.0
// The policy domain over maps in memory, or over real ones, and the tables around it.
#pragma once

#include <gtest/gtest.h>
#include <k8s/namespace.pb.h>
#include <k8s/networkpolicy.pb.h>
#include <k8s/pod.pb.h>

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/kube/project.h"
#include "agent/policy/judge.h"
#include "agent/policy/policy.h"
#include "agent/state/table.h"
#include "test/unit/kube/read.h"

namespace fairlead::policy {

inline IpAddress ip(const std::string& text) {
  return IpAddress::parse(text).value();
}

// The maps, as the domain's edge sees them, with room for so many peers and CIDRs.
class FakeMaps final : public datapath::PolicyMaps {
 public:
  Result<> set_identity(const IpAddress& address, datapath::Identity identity) override {
    contents.addresses[address] = identity;
    return written();
  }
  Result<> erase_identity(const IpAddress& address) override {
    contents.addresses.erase(address);
    return written();
  }
  Result<> set_identity(const Cidr& cidr, datapath::Identity identity) override {
    if (!contents.cidrs.contains(cidr) && contents.cidrs.size() >= cidr_room) {
      return fail(Code::kExhausted, "map pol_cidr is full");
    }
    contents.cidrs[cidr] = identity;
    return written();
  }
  Result<> erase_identity(const Cidr& cidr) override {
    contents.cidrs.erase(cidr);
    return written();
  }
  Result<> put_rules(datapath::RuleSetId id, const std::vector<datapath::PortRange>& any_peer) override {
    EXPECT_NE(id, 0U);
    contents.rules[id].any_peer = any_peer;
    return written();
  }
  Result<> allow(datapath::RuleSetId id, datapath::Identity peer,
                 const std::vector<datapath::PortRange>& ports) override {
    EXPECT_TRUE(contents.rules.contains(id));
    std::size_t peers = 0;
    for (const auto& [number, set] : contents.rules) peers += set.peers.size();
    if (peers >= peer_room && !contents.rules[id].peers.contains(peer)) {
      return fail(Code::kExhausted, "map pol_peers is full");
    }
    contents.rules[id].peers[peer] = ports;
    return written();
  }
  std::size_t allow_first(datapath::RuleSetId id, const std::vector<datapath::PeerPorts>& peers) override {
    std::size_t done = 0;
    for (const auto& [peer, ports] : peers) {
      if (!allow(id, peer, ports)) break;
      ++done;
    }
    return done;
  }
  Result<> forbid(datapath::RuleSetId id, datapath::Identity peer) override {
    contents.rules.at(id).peers.erase(peer);
    return written();
  }
  Result<> erase_rules(datapath::RuleSetId id) override {
    contents.rules.erase(id);
    return written();
  }
  Result<datapath::PolicyContents> read() const override { return contents; }

  datapath::PolicyContents contents;
  std::size_t peer_room = 1U << 20;
  std::size_t cidr_room = 1U << 20;
  std::size_t writes = 0;
  std::function<void()> on_write;

 private:
  Result<> written() {
    ++writes;
    if (on_write) on_write();
    return {};
  }
};

// One node, "n1", at 172.16.0.1 and fd00:16::1. The test turns the loop.
class Domain {
 public:
  // `real`: the maps to write, which live longer; else `maps` are.
  explicit Domain(Duration grace = Duration::zero(), datapath::PolicyMaps* real = nullptr)
      : grace_(grace), written_(real != nullptr ? *real : maps) {
    endpoint("node", {}, 0, node_addresses);
  }

  void start() {
    policy_.reset();
    registry_ = std::make_unique<metrics::Registry>();
    auto [caller, responder] = make_request<Inspect, Json>();
    ask_ = caller;
    policy_ = std::make_unique<Policy>(loop_, clock_,
                                       Policy::Deps{.node = "n1",
                                                    .policies = policies.reader(),
                                                    .namespaces = namespaces.reader(),
                                                    .peers = peers.reader(),
                                                    .pods = pods.reader(),
                                                    .endpoints = endpoints.reader(),
                                                    .maps = written_,
                                                    .pod_policies = rows.writer("policy"),
                                                    .registry = *registry_,
                                                    .inspect = std::move(responder),
                                                    .grace = grace_,
                                                    .audit_period = std::chrono::hours(1)});
  }
  void complete() {
    policies.writer("api").set_complete();
    namespaces.writer("api").set_complete();
    peers.writer("api").set_complete();
    pods.writer("api").set_complete();
    endpoints.writer("network").set_complete();
  }
  // Until nothing happens any more.
  void turn() {
    constexpr int kQuiet = 6;
    for (int quiet = 0; quiet < kQuiet; ++quiet) {
      const std::size_t writes = maps.writes;
      loop_.poll();
      if (maps.writes != writes) quiet = 0;
    }
  }
  // Until all that there is to write is written, or is told not to fit. Gives policy.sync's answer.
  Json settle() {
    while (true) {
      Json state = ask("policy.sync").value();
      if (state["synced"] == true || (state["missing"].empty() && !state["failing"].empty())) return state;
    }
  }
  double gauge(const std::string& name) const {
    for (const auto& family : registry_->Collect()) {
      if (family.name == name) return family.metric.at(0).gauge.value;
    }
    ADD_FAILURE() << "no metric " << name;
    return -1;
  }
  Result<Json> ask(const std::string& op, Json args = Json::object()) {
    std::optional<Result<Json>> answer;
    ask_.call(loop_, Inspect{op, std::move(args)}, std::chrono::seconds(60),
              [&](Result<Json> result) { answer = result; });
    while (!answer) loop_.poll();
    return *answer;
  }

  void policy(const std::string& key, const k8s::NetworkPolicy& message) {
    policies.writer("api").upsert(key, kube::project_network_policy(message).value());
  }
  // `spec` as YAML.
  void policy(const std::string& key, const std::string& spec) {
    auto message = kube::read_text<k8s::NetworkPolicy>("spec: " + spec);
    message.mutable_metadata()->set_namespace_(key.substr(0, key.find('/')));
    message.mutable_metadata()->set_name(key.substr(key.find('/') + 1));
    policy(key, message);
  }
  void name_space(const std::string& name, const model::Labels& labels) {
    namespaces.writer("api").upsert(name, model::Namespace{name, labels});
  }
  // A pod with uid "namespace/name"; on another node where `own` is false.
  static k8s::Pod pod(const std::string& key, const model::Labels& labels, const std::vector<IpAddress>& ips) {
    k8s::Pod message;
    message.mutable_metadata()->set_namespace_(key.substr(0, key.find('/')));
    message.mutable_metadata()->set_name(key.substr(key.find('/') + 1));
    message.mutable_metadata()->set_uid(key);
    for (const auto& [name, value] : labels) (*message.mutable_metadata()->mutable_labels())[name] = value;
    for (const IpAddress& address : ips) message.mutable_status()->add_podips()->set_ip(address.str());
    return message;
  }
  void peer(const k8s::Pod& message) {
    peers.writer("api").upsert(message.metadata().uid(), kube::project_peer_pod(message));
  }
  void own(const k8s::Pod& message) {
    pods.writer("api").upsert(message.metadata().uid(), kube::project_pod(std::make_shared<k8s::Pod>(message), "api"));
  }
  void endpoint(const std::string& key, const model::ObjectId& pod, std::uint32_t ifindex,
                const std::vector<IpAddress>& addresses) {
    endpoints.writer("network").upsert(
        key, model::ServedNetns{.cookie = 1, .path = "", .addresses = addresses, .ifindex = ifindex, .pod = pod});
  }
  // A pod of this node with its endpoint.
  void own_with_endpoint(const k8s::Pod& message) {
    own(message);
    std::vector<IpAddress> addresses;
    for (const auto& each : message.status().podips()) addresses.push_back(ip(each.ip()));
    const auto& meta = message.metadata();
    endpoint("c-" + meta.uid(), {meta.namespace_(), meta.name(), meta.uid()}, 7, addresses);
  }

  std::shared_ptr<const model::PodPolicy> row(const std::string& uid) const { return rows.get(uid); }
  // As the maps say, for a pod that has its row.
  bool ingress(const std::string& uid, const IpAddress& from, std::uint8_t protocol, std::uint16_t port) const {
    return allows(maps.contents, row(uid)->ingress_rules, identity_of(maps.contents, from), protocol, port);
  }
  bool egress(const std::string& uid, const IpAddress& to, std::uint8_t protocol, std::uint16_t port) const {
    return allows(maps.contents, row(uid)->egress_rules, identity_of(maps.contents, to), protocol, port);
  }

  const std::vector<IpAddress> node_addresses{ip("172.16.0.1"), ip("fd00:16::1")};
  FakeMaps maps;
  state::Table<model::NetworkPolicy> policies{{"api"}};
  state::Table<model::Namespace> namespaces{{"api"}};
  state::Table<model::PeerPod> peers{{"api"}};
  state::Table<model::Pod> pods{{"api"}};
  state::Table<model::ServedNetns> endpoints{{"network"}};
  state::Table<model::PodPolicy> rows{{"policy"}};
  ManualClock clock_;

 private:
  Duration grace_;
  datapath::PolicyMaps& written_;
  Loop loop_;
  std::unique_ptr<metrics::Registry> registry_;
  Caller<Inspect, Json> ask_;
  std::unique_ptr<Policy> policy_;
};

}  // namespace fairlead::policy
