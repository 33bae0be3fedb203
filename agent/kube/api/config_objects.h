// SPDX-License-Identifier: Apache-2.0
// ConfigObjects: the ConfigMaps and Secrets that pods here use, each read alone and by name: more than that a node may
// not read.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "agent/base/channel.h"
#include "agent/base/loop.h"
#include "agent/base/metrics.h"
#include "agent/base/table_writer.h"
#include "agent/kube/api/http.h"
#include "agent/kube/api/reflector.h"
#include "agent/model/rows.h"

namespace fairlead::kube {

// Owner: ApiSource; thread: its loop. Cost: one watch for each wanted object, a hundred of them over one connection.
// Each goes its own way: one that is forbidden or missing holds nobody up. Its row is there from its first list on
// (ConfigData::absent where the server has no such object) until it is wanted no more. Both tables are complete at
// once: at first nothing is wanted.
class ConfigObjects {
 public:
  struct Deps {
    Receiver<model::ConfigWant> wants;
    TableWriter<model::ConfigData> config_maps;
    TableWriter<model::ConfigData> secrets;
    metrics::Registry& registry;
  };

  ConfigObjects(Loop& loop, HttpClient& http, Deps deps);
  void start();

  void for_each(const std::function<void(const Reflector&)>& visit) const;

 private:
  void take(const model::ConfigWant& want);
  const TableWriter<model::ConfigData>& writer(model::ConfigKind kind) const;

  Loop& loop_;
  HttpClient& http_;
  Deps deps_;
  prometheus::Gauge& wanted_;
  std::map<model::ConfigWant::Key, std::unique_ptr<Reflector>> reflectors_;
};

}  // namespace fairlead::kube
