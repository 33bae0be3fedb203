// SPDX-License-Identifier: Apache-2.0
// Text ↔ message: fills the API's protobuf messages from YAML or JSON by reflection, and writes them as JSON. Where the
// text form differs from the wire form (k8s/options.proto: inline; scalars.proto), it is honoured in both directions.
#pragma once

#include <nlohmann/json.hpp>
#include <string_view>

#include "agent/kube/codec/field_error.h"
#include "agent/kube/codec/yaml.h"

namespace google::protobuf {
class Message;
}

namespace fairlead::kube {

// Fills `into` from a map. `path` stands in front of the field paths of errors. An object's own apiVersion and kind are
// skipped at the top. On errors (unknown field, wrong type, bad value; 20 at most) `into` is half filled: drop it.
FieldErrors read_message(const yaml::Node& node, google::protobuf::Message& into, const std::string& path = "");

// What is set in `message`, maps by key; unknown wire fields have no text form and are left out.
nlohmann::ordered_json to_json(const google::protobuf::Message& message);
// The same as a whole object, apiVersion and kind first.
nlohmann::ordered_json to_json(const google::protobuf::Message& message, std::string_view api_version,
                               std::string_view kind);

}  // namespace fairlead::kube
