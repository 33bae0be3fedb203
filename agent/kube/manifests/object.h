// SPDX-License-Identifier: Apache-2.0
// One manifest file as objects: read, defaulted, validated, projected. Pure; a bad object is a refusal and leaves the
// others alone.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "agent/kube/codec/field_error.h"
#include "agent/kube/codec/yaml.h"
#include "agent/model/rows.h"

namespace fairlead::kube {

enum class ManifestKind { kPod, kService, kEndpointSlice, kConfigMap, kSecret, kNamespace, kNode, kNetworkPolicy };
std::string_view to_string(ManifestKind kind);

// Where an object stands in its file, and who it says it is; empty where it does not say.
struct ManifestPlace {
  unsigned document = 0;    // from 1
  std::optional<int> item;  // index in the document's List
  unsigned line = 0;        // from 1; 0: it comes from the kept copy
  std::string kind;
  std::string ns;
  std::string name;
  // "Pod/default/web"; empty unless kind and name are known.
  std::string key() const { return kind.empty() || name.empty() ? std::string() : kind + "/" + ns + "/" + name; }
};

// An object fit to be in force.
struct ManifestObject {
  ManifestPlace place;
  ManifestKind kind = ManifestKind::kPod;
  std::string row_key;  // of its table
  // What its table gets; nothing for a Pod that names another node.
  std::variant<std::monostate, model::Pod, model::Service, model::EndpointSlice, model::ConfigData, model::Node,
               model::Namespace, model::NetworkPolicy>
      row;
  std::string source;                 // the object as JSON, before defaults: what the kept copy holds
  std::vector<std::string> reported;  // fields that are set and have no effect
  bool kept = false;                  // its file has no good version of it now; this is the last one
};

struct ManifestRefusal {
  ManifestPlace place;
  FieldErrors errors;  // at least one
};

struct ManifestContent {
  std::vector<ManifestObject> objects;
  std::vector<ManifestRefusal> refusals;
  bool whole = true;  // false: the text could not be cut into objects, `refusals` says why
};

// Who reads: a pod without a node goes to `node_name`; `source` is what Pod rows name as theirs (the file's path).
struct ManifestReader {
  std::string node_name;
  // Only pods, which are this node's alone: "-NODE" is added to their names, as kubelet does, so that the mirrors of
  // many nodes' pods from one file differ.
  bool static_pods = false;
  ManifestContent read(std::string_view text, const std::string& source) const;
  // A single object, as a List's item or the kept copy has it.
  void read_object(const yaml::Node& node, ManifestPlace place, const std::string& source,
                   ManifestContent& content) const;
};

}  // namespace fairlead::kube
