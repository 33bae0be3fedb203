// SPDX-License-Identifier: Apache-2.0
// ApiSource: an API server as the source of objects, and the place where statuses of pods go.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "agent/base/channel.h"
#include "agent/base/local_protocol.h"
#include "agent/base/loop.h"
#include "agent/base/metrics.h"
#include "agent/base/request.h"
#include "agent/base/table_writer.h"
#include "agent/kube/api/http.h"
#include "agent/kube/api/json_api.h"
#include "agent/kube/api/reflector.h"
#include "agent/kube/api/status_writer.h"
#include "agent/model/rows.h"

namespace fairlead::kube {

// The source's name in tables and in model::Pod::source.
inline constexpr auto kApiSource = "api";

struct ApiWriters {
  TableWriter<model::Service> services;
  TableWriter<model::EndpointSlice> endpoint_slices;
  TableWriter<model::Pod> pods;   // those bound to `node_name`
  TableWriter<model::Node> node;  // the one called `node_name`
};

// Owner: main.cc. Thread: its loop's. Answers "api.status" → {complete, missing: [kind], failing: {kind: reason}}.
class ApiSource {
 public:
  struct Deps {
    ClusterAccess access;
    std::string node_name;
    ApiWriters writers;
    Receiver<model::PodStatusUpdate> statuses;
    Responder<Inspect, Json> inspect;
    metrics::Registry& registry;
  };

  ApiSource(Loop& loop, Deps deps);
  void start();
  // For who else speaks to the server on this loop.
  JsonApi& api() { return api_; }

 private:
  template <class Row>
  void reflect(std::string kind, std::string path, std::string selector, TableWriter<Row> writer,
               typename TableObjectSink<Row>::Decode decode, metrics::Registry& registry);
  Json status() const;

  Loop& loop_;
  HttpClient http_;
  JsonApi api_;
  PodStatusWriter status_writer_;
  Responder<Inspect, Json> inspect_;
  std::vector<std::pair<std::string, std::unique_ptr<Reflector>>> reflectors_;  // by kind
};

}  // namespace fairlead::kube
