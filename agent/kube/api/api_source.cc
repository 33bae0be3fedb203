// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/api/api_source.h"

#include <utility>

#include "agent/kube/decode.h"

namespace fairlead::kube {
namespace {

template <class Row, class Decode>
std::unique_ptr<ObjectSink> table_sink(TableWriter<Row> writer, typename TableObjectSink<Row>::KeyOf key_of,
                                       Decode decode) {
  return std::make_unique<TableObjectSink<Row>>(std::move(writer), key_of, decode);
}

}  // namespace

ApiSource::PodSide::PodSide(Loop& loop, HttpClient& http, JsonApi& api, const std::string& node_name, PodEnds ends,
                            metrics::Registry& registry)
    : mirrors(loop, api,
              {.node_name = node_name,
               .pods = std::move(ends.static_pods),
               .changed = [this](const std::string& uid) { statuses.mirror_changed(uid); }}),
      statuses(
          loop, api, std::move(ends.statuses), [this](const std::string& uid) { return mirrors.mirror_of(uid); },
          registry),
      events(loop, api, std::move(ends.events), node_name, registry),
      configs(loop, http,
              {.wants = std::move(ends.config_wants),
               .config_maps = std::move(ends.config_maps),
               .secrets = std::move(ends.secrets),
               .registry = registry}),
      tokens(loop, api, std::move(ends.tokens)) {}

void ApiSource::reflect(ReflectorConfig config, std::unique_ptr<ObjectSink> sink, metrics::Registry& registry) {
  reflectors_.push_back(std::make_unique<Reflector>(loop_, http_, std::move(config), std::move(sink), registry));
}

ApiSource::ApiSource(Loop& loop, Deps deps)
    : loop_(loop), http_(loop, std::move(deps.access)), api_(http_), inspect_(std::move(deps.inspect)) {
  if (deps.pod_ends) {
    pods_ = std::make_unique<PodSide>(loop_, http_, api_, deps.node_name, std::move(*deps.pod_ends), deps.registry);
  }
  reflect({.kind = "Service", .path = "/api/v1/services"},
          table_sink(std::move(deps.writers.services), key_by_name, decode_service), deps.registry);
  reflect({.kind = "EndpointSlice", .path = "/apis/discovery.k8s.io/v1/endpointslices"},
          table_sink(std::move(deps.writers.endpoint_slices), key_by_name, EndpointSliceDecoder()), deps.registry);
  auto pods = table_sink(std::move(deps.writers.pods), key_by_uid, decode_pod);
  if (pods_) pods = pods_->statuses.watch(pods_->mirrors.sort_out(std::move(pods)));
  reflect({.kind = "Pod", .path = "/api/v1/pods", .selector = "fieldSelector=spec.nodeName%3D" + deps.node_name},
          std::move(pods), deps.registry);
  // A node may always read its own Node object; all of them, where its role says so.
  reflect({.kind = "Node",
           .object = deps.node_name,
           .path = "/api/v1/nodes",
           .selector = "fieldSelector=metadata.name%3D" + deps.node_name},
          table_sink(std::move(deps.writers.node), key_by_name, decode_node), deps.registry);
  reflect({.kind = "Node", .path = "/api/v1/nodes"},
          table_sink(std::move(deps.writers.nodes), key_by_name, decode_node), deps.registry);
  reflect({.kind = "Namespace", .path = "/api/v1/namespaces"},
          table_sink(std::move(deps.writers.namespaces), key_by_name, decode_namespace), deps.registry);
  reflect({.kind = "NetworkPolicy", .path = "/apis/networking.k8s.io/v1/networkpolicies"},
          table_sink(std::move(deps.writers.network_policies), key_by_name, decode_network_policy), deps.registry);
  reflect({.kind = "PeerPod", .path = "/api/v1/pods", .selector = "fieldSelector=spec.nodeName%21%3D" + deps.node_name},
          table_sink(std::move(deps.writers.peer_pods), key_by_uid, decode_peer_pod), deps.registry);
  inspect_.attach(loop_, [this](const Inspect& request, Reply<Json> reply) {
    if (request.op == "api.status") return reply(status());
    reply(fail(Code::kNotFound, "no operation \"{}\"", request.op));
  });
}

void ApiSource::start() {
  for (auto& reflector : reflectors_) reflector->start();
  if (pods_) pods_->configs.start();
}

Json ApiSource::status() const {
  Json missing = Json::array();
  Json failing = Json::object();
  const auto note = [&](const Reflector& reflector) {
    if (!reflector.listed()) missing.push_back(reflector.config().name());
    if (!reflector.trouble().empty()) failing[reflector.config().name()] = reflector.trouble();
  };
  for (const auto& reflector : reflectors_) note(*reflector);
  const bool complete = missing.empty();  // one object that cannot be had does not make a kind incomplete
  Json pending = Json::object();
  if (pods_) {
    pods_->configs.for_each(note);
    for (const auto& [pod, error] : pods_->statuses.failing()) failing["PodStatus " + pod] = error.message();
    for (const auto& [pod, error] : pods_->mirrors.failing()) failing["MirrorPod " + pod] = error.message();
    pending = {{"statuses", pods_->statuses.pending()}, {"events", pods_->events.pending()}};
  }
  return {{"complete", complete}, {"missing", missing}, {"failing", failing}, {"pending", pending}};
}

}  // namespace fairlead::kube
