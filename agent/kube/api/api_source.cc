// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/api/api_source.h"

#include "agent/kube/decode.h"

namespace fairlead::kube {

template <class Row>
void ApiSource::reflect(std::string kind, std::string path, std::string selector, TableWriter<Row> writer,
                        typename TableObjectSink<Row>::Decode decode, metrics::Registry& registry) {
  auto sink = std::make_unique<TableObjectSink<Row>>(std::move(writer), std::move(decode));
  ReflectorConfig config;
  config.kind = kind;
  config.path = std::move(path);
  config.selector = std::move(selector);
  reflectors_.emplace_back(std::move(kind),
                           std::make_unique<Reflector>(loop_, http_, std::move(config), std::move(sink), registry));
}

ApiSource::ApiSource(Loop& loop, Deps deps)
    : loop_(loop),
      http_(loop, std::move(deps.access)),
      api_(http_),
      status_writer_(loop, api_, std::move(deps.statuses), kApiSource, deps.registry),
      inspect_(std::move(deps.inspect)) {
  reflect<model::Service>("Service", "/api/v1/services", "", std::move(deps.writers.services), decode_service,
                          deps.registry);
  reflect<model::EndpointSlice>("EndpointSlice", "/apis/discovery.k8s.io/v1/endpointslices", "",
                                std::move(deps.writers.endpoint_slices), decode_endpoint_slice, deps.registry);
  reflect<model::Pod>("Pod", "/api/v1/pods", "fieldSelector=spec.nodeName%3D" + deps.node_name,
                      std::move(deps.writers.pods), decode_pod, deps.registry);
  reflect<model::Node>("Node", "/api/v1/nodes", "fieldSelector=metadata.name%3D" + deps.node_name,
                       std::move(deps.writers.node), decode_node, deps.registry);
  inspect_.attach(loop_, [this](const Inspect& request, Reply<Json> reply) {
    if (request.op == "api.status") return reply(status());
    reply(fail(Code::kNotFound, "no operation \"{}\"", request.op));
  });
}

void ApiSource::start() {
  for (auto& [kind, reflector] : reflectors_) reflector->start();
}

Json ApiSource::status() const {
  Json missing = Json::array();
  Json failing = Json::object();
  for (const auto& [kind, reflector] : reflectors_) {
    if (!reflector->listed()) missing.push_back(kind);
    if (!reflector->trouble().empty()) failing[kind] = reflector->trouble();
  }
  return {{"complete", missing.empty()},
          {"missing", missing},
          {"failing", failing},
          {"statuses_pending", status_writer_.pending()}};
}

}  // namespace fairlead::kube
