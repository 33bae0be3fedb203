// SPDX-License-Identifier: Apache-2.0
// Wire bytes of one object → its table's key and row: what a reflector decodes with. Errors name the kind and the
// field.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "agent/base/result.h"
#include "agent/model/rows.h"

namespace k8s {
class EndpointSlice;
}

namespace fairlead::kube {

template <class Row>
using Keyed = std::pair<std::string, Row>;

Result<Keyed<model::Service>> decode_service(std::string_view bytes);
Result<Keyed<model::Pod>> decode_pod(std::string_view bytes);  // keyed by uid; source "api"
Result<Keyed<model::ConfigData>> decode_config_map(std::string_view bytes);
Result<Keyed<model::ConfigData>> decode_secret(std::string_view bytes);
Result<Keyed<model::Node>> decode_node(std::string_view bytes);            // keyed by name
Result<Keyed<model::Namespace>> decode_namespace(std::string_view bytes);  // keyed by name
Result<Keyed<model::PeerPod>> decode_peer_pod(std::string_view bytes);     // keyed by uid
Result<Keyed<model::NetworkPolicy>> decode_network_policy(std::string_view bytes);

// Decodes slice after slice into one message: what that allocated serves the next one, at half the cost. One thread.
class EndpointSliceDecoder {
 public:
  EndpointSliceDecoder();
  Result<Keyed<model::EndpointSlice>> operator()(std::string_view bytes) const;

 private:
  std::shared_ptr<k8s::EndpointSlice> message_;  // means nothing between two calls
};

}  // namespace fairlead::kube
