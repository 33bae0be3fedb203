// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/manifests/object.h"

#include <k8s/config.pb.h>
#include <k8s/endpointslice.pb.h>
#include <k8s/namespace.pb.h>
#include <k8s/networkpolicy.pb.h>
#include <k8s/node.pb.h>
#include <k8s/pod.pb.h>
#include <k8s/service.pb.h>

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include "agent/base/result.h"
#include "agent/kube/codec/text.h"
#include "agent/kube/defaults/defaults.h"
#include "agent/kube/fields/fields.h"
#include "agent/kube/manifests/pod_uid.h"
#include "agent/kube/project.h"
#include "agent/kube/validate/validate.h"

namespace fairlead::kube {
namespace {

struct KindName {
  ManifestKind kind;
  std::string_view name;
  std::string_view api_version;
};
constexpr std::array<KindName, 8> kKinds{{{ManifestKind::kPod, "Pod", "v1"},
                                          {ManifestKind::kService, "Service", "v1"},
                                          {ManifestKind::kEndpointSlice, "EndpointSlice", "discovery.k8s.io/v1"},
                                          {ManifestKind::kConfigMap, "ConfigMap", "v1"},
                                          {ManifestKind::kSecret, "Secret", "v1"},
                                          {ManifestKind::kNamespace, "Namespace", "v1"},
                                          {ManifestKind::kNode, "Node", "v1"},
                                          {ManifestKind::kNetworkPolicy, "NetworkPolicy", "networking.k8s.io/v1"}}};

// Kinds that only a control plane turns into pods.
constexpr std::array<std::string_view, 7> kControllers{"Deployment", "ReplicaSet", "StatefulSet",          "DaemonSet",
                                                       "Job",        "CronJob",    "ReplicationController"};

// Why an object of this kind and version cannot be had from a manifest; empty: it can.
FieldError wrong_kind(std::string_view kind, std::string_view api_version, bool only_pods) {
  if (kind.empty()) return {"kind", "Required value"};
  if (api_version.empty()) return {"apiVersion", "Required value"};
  if (only_pods && kind != "Pod") return {"kind", fmt::format("{} is for the API server: here are static pods", kind)};
  if (std::ranges::find(kControllers, kind) != kControllers.end()) {
    return {"kind", fmt::format("{} needs a control plane: use --kubeconfig, or write Pods", kind)};
  }
  const auto* at = std::ranges::find(kKinds, kind, &KindName::name);
  if (at == kKinds.end()) {
    return {"kind", fmt::format("{} is not supported in manifests: write Pod, Service, EndpointSlice, ConfigMap, "
                                "Secret, Namespace, Node, NetworkPolicy or a List of them",
                                kind)};
  }
  if (at->api_version != api_version) {
    return {"apiVersion", fmt::format("Invalid value: \"{}\": {} is of {}", api_version, kind, at->api_version)};
  }
  return {};
}

// An object on its way from text to row; one for each kind below.
struct Draft {
  const ManifestReader& reader;
  const std::string& source;
  ManifestObject& object;
  FieldErrors errors;

  // Keeps the text form, then default and validate; false: there are errors.
  template <class Message>
  bool prepare(const yaml::Node& node, Message& message, void (*apply_defaults)(Message&),
               FieldErrors (*validate)(const Message&)) {
    errors = read_message(node, message);
    if (!errors.empty()) return false;
    default_manifest_meta(*message.mutable_metadata());
    object.source = to_json(message, node.text_of("apiVersion"), node.text_of("kind")).dump();
    if (apply_defaults != nullptr) apply_defaults(message);
    errors = validate(message);
    return errors.empty();
  }

  template <class Row>
  void project(Result<Row> row) {
    if (!row) {
      errors.push_back({"", row.error().what});
    } else {
      object.row_key = row->id.key();
      object.row = std::move(*row);
    }
  }

  void pod(const yaml::Node& node) {
    auto pod = std::make_shared<k8s::Pod>();
    if (!prepare(node, *pod, default_pod, validate_pod)) return;
    pod->clear_status();
    FieldReport report = check_pod_fields(*pod);
    errors = std::move(report.refused);
    object.reported = std::move(report.reported);
    if (!errors.empty()) return;
    if (reader.static_pods) pod->mutable_metadata()->mutable_name()->append("-" + reader.node_name);
    std::string& node_name = *pod->mutable_spec()->mutable_nodename();
    if (node_name.empty()) node_name = reader.node_name;
    pod->mutable_metadata()->set_uid(manifest_pod_uid(node_name, *pod));
    object.row_key = pod->metadata().uid();
    if (node_name == reader.node_name) object.row = project_pod(std::move(pod), source);
  }

  void service(const yaml::Node& node) {
    k8s::Service service;
    if (!prepare(node, service, default_service, validate_service)) return;
    service.clear_status();
    FieldReport report = check_service_fields(service);
    errors = std::move(report.refused);
    object.reported = std::move(report.reported);
    if (errors.empty()) project(project_service(service));
  }

  void endpoint_slice(const yaml::Node& node) {
    k8s::EndpointSlice slice;
    if (prepare(node, slice, default_endpoint_slice, validate_endpoint_slice)) project(project_endpoint_slice(slice));
  }

  void config_map(const yaml::Node& node) {
    k8s::ConfigMap config;
    if (prepare<k8s::ConfigMap>(node, config, nullptr, validate_config_map)) {
      project(Result<model::ConfigData>(project_config_map(config)));
    }
  }

  void secret(const yaml::Node& node) {
    k8s::Secret secret;
    if (prepare(node, secret, default_secret, validate_secret)) {
      project(Result<model::ConfigData>(project_secret(secret)));
    }
  }

  void name_space(const yaml::Node& node) {
    k8s::Namespace name_space;
    if (!prepare<k8s::Namespace>(node, name_space, nullptr, validate_namespace)) return;
    model::Namespace row = project_namespace(name_space);
    row.labels[std::string(model::kNamespaceNameLabel)] = row.name;  // as an API server does on write
    object.row_key = row.name;
    object.row = std::move(row);
  }

  void network_policy(const yaml::Node& node) {
    k8s::NetworkPolicy policy;
    if (prepare(node, policy, default_network_policy, validate_network_policy)) {
      project(project_network_policy(policy));
    }
  }

  void node_object(const yaml::Node& node) {
    k8s::Node message;
    if (!prepare(node, message, default_node, validate_node)) return;
    auto row = project_node(message);
    if (!row) return errors.push_back({"", row.error().what});
    object.row_key = row->name;
    object.row = std::move(*row);
  }
};

}  // namespace

std::string_view to_string(ManifestKind kind) {
  return std::ranges::find(kKinds, kind, &KindName::kind)->name;
}

void ManifestReader::read_object(const yaml::Node& node, ManifestPlace place, const std::string& source,
                                 ManifestContent& content) const {
  const auto refuse = [&](FieldErrors errors) {
    for (FieldError& error : errors) {
      if (error.line == 0 && place.line != 0) error.line = yaml::line_of(node, error.field);
    }
    content.refusals.push_back({place, std::move(errors)});
  };
  if (node.kind != yaml::Node::Kind::kMap) {
    return refuse({{"", fmt::format("expected an object, got {}", yaml::kind_name(node)), node.line}});
  }
  place.kind = node.text_of("kind");
  if (const yaml::Node* meta = node.get("metadata"); meta != nullptr) {
    place.name = meta->text_of("name");
    place.ns = meta->text_of("namespace");
  }
  if (place.kind == "Namespace" || place.kind == "Node") {
    place.ns.clear();
  } else if (place.ns.empty()) {
    place.ns = "default";
  }
  if (FieldError wrong = wrong_kind(place.kind, node.text_of("apiVersion"), static_pods); !wrong.reason.empty()) {
    return refuse({std::move(wrong)});
  }
  ManifestObject object;
  object.place = place;
  object.kind = std::ranges::find(kKinds, std::string_view(place.kind), &KindName::name)->kind;
  Draft draft{*this, source, object, {}};
  switch (object.kind) {
    case ManifestKind::kPod:
      draft.pod(node);
      break;
    case ManifestKind::kService:
      draft.service(node);
      break;
    case ManifestKind::kEndpointSlice:
      draft.endpoint_slice(node);
      break;
    case ManifestKind::kConfigMap:
      draft.config_map(node);
      break;
    case ManifestKind::kSecret:
      draft.secret(node);
      break;
    case ManifestKind::kNamespace:
      draft.name_space(node);
      break;
    case ManifestKind::kNode:
      draft.node_object(node);
      break;
    case ManifestKind::kNetworkPolicy:
      draft.network_policy(node);
      break;
  }
  if (!draft.errors.empty()) return refuse(std::move(draft.errors));
  content.objects.push_back(std::move(object));
}

ManifestContent ManifestReader::read(std::string_view text, const std::string& source) const {
  ManifestContent content;
  auto documents = yaml::parse(text);
  if (!documents) {
    content.whole = false;
    content.refusals.push_back({{}, {std::move(documents).error()}});
    return content;
  }
  for (const yaml::Document& document : *documents) {
    ManifestPlace place;
    place.document = document.index;
    place.line = document.root.line;
    if (!document.trouble.reason.empty()) {
      content.refusals.push_back({place, {document.trouble}});
      continue;
    }
    const yaml::Node* items = document.root.get("items");
    if (document.root.text_of("kind") != "List" || document.root.text_of("apiVersion") != "v1" || items == nullptr) {
      read_object(document.root, place, source, content);
      continue;
    }
    for (std::size_t i = 0; i < items->items.size(); ++i) {
      place.item = static_cast<int>(i);
      place.line = items->items[i].line;
      read_object(items->items[i], place, source, content);
    }
  }
  return content;
}

}  // namespace fairlead::kube
