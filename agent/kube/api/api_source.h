// SPDX-License-Identifier: Apache-2.0
// ApiSource: an API server as the source of objects, and the place where this node's word about its pods goes.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/channel.h"
#include "agent/base/local_protocol.h"
#include "agent/base/loop.h"
#include "agent/base/metrics.h"
#include "agent/base/request.h"
#include "agent/base/table_writer.h"
#include "agent/kube/api/config_objects.h"
#include "agent/kube/api/events.h"
#include "agent/kube/api/http.h"
#include "agent/kube/api/json_api.h"
#include "agent/kube/api/mirror_pods.h"
#include "agent/kube/api/reflector.h"
#include "agent/kube/api/status_writer.h"
#include "agent/kube/api/tokens.h"
#include "agent/model/rows.h"

namespace fairlead::kube {

// The source's name in tables and in model::Pod::source.
inline constexpr auto kApiSource = "api";

struct ApiWriters {
  TableWriter<model::Service> services;
  TableWriter<model::EndpointSlice> endpoint_slices;
  TableWriter<model::Pod> pods;   // those bound to `node_name`
  TableWriter<model::Node> node;  // the one called `node_name`
  TableWriter<model::Node> nodes;
  TableWriter<model::Namespace> namespaces;
  TableWriter<model::NetworkPolicy> network_policies;
  TableWriter<model::PeerPod> peer_pods;  // those on other nodes
};

// What an agent that runs pods asks of the API server and tells it.
struct PodEnds {
  Receiver<model::PodStatusUpdate> statuses;
  Receiver<model::EventNote> events;
  Receiver<model::StaticPod> static_pods;
  Receiver<model::ConfigWant> config_wants;
  TableWriter<model::ConfigData> config_maps;
  TableWriter<model::ConfigData> secrets;
  Responder<model::TokenAsk, model::ServiceAccountToken> tokens;
};

// Owner: Agent. Thread: its loop's. Each kind is complete on its own: one that is forbidden blocks no other.
//
// Answers "api.status" → {complete, missing: [kind], failing: {kind: reason}, pending: {statuses, events}}. A kind is
// "Service", one wanted object "Secret default/key" or, this node's own, "Node n1"; failing also names pods whose
// status ("PodStatus default/web") or mirror ("MirrorPod …") the server does not take.
class ApiSource {
 public:
  struct Deps {
    ClusterAccess access;
    std::string node_name;
    ApiWriters writers;
    std::optional<PodEnds> pod_ends;  // none: another kubelet runs this node's pods
    Responder<Inspect, Json> inspect;
    metrics::Registry& registry;
  };

  ApiSource(Loop& loop, Deps deps);
  void start();
  // For who else speaks to the server on this loop.
  JsonApi& api() { return api_; }

 private:
  // All that is only there where this agent runs pods.
  struct PodSide {
    PodSide(Loop& loop, HttpClient& http, JsonApi& api, const std::string& node_name, PodEnds ends,
            metrics::Registry& registry);
    MirrorPods mirrors;
    PodStatusWriter statuses;
    EventWriter events;
    ConfigObjects configs;
    TokenRequests tokens;
  };

  void reflect(ReflectorConfig config, std::unique_ptr<ObjectSink> sink, metrics::Registry& registry);
  Json status() const;

  Loop& loop_;
  HttpClient http_;
  JsonApi api_;
  std::unique_ptr<PodSide> pods_;
  Responder<Inspect, Json> inspect_;
  std::vector<std::unique_ptr<Reflector>> reflectors_;
};

}  // namespace fairlead::kube
