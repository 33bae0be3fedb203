// SPDX-License-Identifier: Apache-2.0
// ObjectTables: the tables of what a cluster declares: a source of objects writes them, domains read them.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "agent/kube/api/api_source.h"
#include "agent/kube/manifests/manifest_source.h"
#include "agent/model/rows.h"
#include "agent/state/table.h"

namespace fairlead {

struct ObjectTables {
  // `source` writes them all. Slices and pods are complete only once these others that write them are through, too.
  explicit ObjectTables(std::string named, std::vector<std::string> others_of_slices = {},
                        std::vector<std::string> others_of_pods = {})
      : source(std::move(named)),
        slices(with_source(std::move(others_of_slices))),
        pods(with_source(std::move(others_of_pods))) {}

  // The source's ends: an API server's …
  kube::ApiWriters api_writers() const {
    return {.services = services.writer(source),
            .endpoint_slices = slices.writer(source),
            .pods = pods.writer(source),
            .node = node.writer(source),
            .nodes = nodes.writer(source),
            .namespaces = namespaces.writer(source),
            .network_policies = policies.writer(source),
            .peer_pods = peer_pods.writer(source)};
  }
  // … and manifests', which know no address of another node's pods.
  kube::ManifestWriters manifest_writers() const {
    return {.services = services.writer(source),
            .endpoint_slices = slices.writer(source),
            .pods = pods.writer(source),
            .config_maps = config_maps.writer(source),
            .secrets = secrets.writer(source),
            .node = node.writer(source),
            .nodes = nodes.writer(source),
            .namespaces = namespaces.writer(source),
            .network_policies = policies.writer(source)};
  }

  const std::string source;
  state::Table<model::Service> services{{source}};
  state::Table<model::EndpointSlice> slices;
  state::Table<model::Pod> pods;  // of this node
  state::Table<model::ConfigData> config_maps{{source}};
  state::Table<model::ConfigData> secrets{{source}};
  state::Table<model::Node> node{{source}};  // this one alone
  state::Table<model::Node> nodes{{source}};
  state::Table<model::Namespace> namespaces{{source}};
  state::Table<model::NetworkPolicy> policies{{source}};
  state::Table<model::PeerPod> peer_pods{{source}};

 private:
  std::vector<std::string> with_source(std::vector<std::string> others) const {
    others.push_back(source);
    return others;
  }
};

}  // namespace fairlead
