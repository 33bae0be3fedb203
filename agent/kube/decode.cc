// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/decode.h"

#include <k8s/config.pb.h>
#include <k8s/endpointslice.pb.h>
#include <k8s/namespace.pb.h>
#include <k8s/networkpolicy.pb.h>
#include <k8s/node.pb.h>
#include <k8s/pod.pb.h>
#include <k8s/service.pb.h>

#include <memory>

#include "agent/kube/project.h"

namespace fairlead::kube {
namespace {

Result<> parse(google::protobuf::MessageLite& into, std::string_view bytes) {
  if (into.ParseFromArray(bytes.data(), static_cast<int>(bytes.size()))) return {};
  return fail(Code::kInvalid, "{} bytes that are no {}", bytes.size(), into.GetTypeName());
}

// "Service default/web: " in front of what is wrong with it.
template <class Row>
Result<Keyed<Row>> keyed(Result<Row> row, std::string_view kind, const k8s::ObjectMeta& meta) {
  if (!row) return fail_with(std::move(row).error(), fmt::format("{} {}/{}", kind, meta.namespace_(), meta.name()));
  std::string key = row->id.key();
  return Keyed<Row>(std::move(key), std::move(*row));
}

}  // namespace

Result<Keyed<model::Service>> decode_service(std::string_view bytes) {
  k8s::Service service;
  FL_TRY(parse(service, bytes));
  return keyed(project_service(service), "Service", service.metadata());
}

EndpointSliceDecoder::EndpointSliceDecoder() : message_(std::make_shared<k8s::EndpointSlice>()) {}

Result<Keyed<model::EndpointSlice>> EndpointSliceDecoder::operator()(std::string_view bytes) const {
  FL_TRY(parse(*message_, bytes));
  return keyed(project_endpoint_slice(*message_), "EndpointSlice", message_->metadata());
}

Result<Keyed<model::Pod>> decode_pod(std::string_view bytes) {
  auto pod = std::make_shared<k8s::Pod>();
  FL_TRY(parse(*pod, bytes));
  // Large, and nobody here asks who set what; a clear() would keep the memory.
  google::protobuf::RepeatedPtrField<k8s::ManagedFieldsEntry>().Swap(pod->mutable_metadata()->mutable_managedfields());
  model::Pod row = project_pod(std::move(pod), "api");
  std::string key = row.id.uid;
  return Keyed<model::Pod>(std::move(key), std::move(row));
}

Result<Keyed<model::ConfigData>> decode_config_map(std::string_view bytes) {
  k8s::ConfigMap config;
  FL_TRY(parse(config, bytes));
  return keyed(Result<model::ConfigData>(project_config_map(config)), "ConfigMap", config.metadata());
}

Result<Keyed<model::ConfigData>> decode_secret(std::string_view bytes) {
  k8s::Secret secret;
  FL_TRY(parse(secret, bytes));
  return keyed(Result<model::ConfigData>(project_secret(secret)), "Secret", secret.metadata());
}

Result<Keyed<model::Node>> decode_node(std::string_view bytes) {
  k8s::Node node;
  FL_TRY(parse(node, bytes));
  auto row = project_node(node);
  if (!row) return fail_with(std::move(row).error(), "Node " + node.metadata().name());
  std::string name = row->name;
  return Keyed<model::Node>(std::move(name), std::move(*row));
}

Result<Keyed<model::Namespace>> decode_namespace(std::string_view bytes) {
  k8s::Namespace name_space;
  FL_TRY(parse(name_space, bytes));
  model::Namespace row = project_namespace(name_space);
  std::string name = row.name;
  return Keyed<model::Namespace>(std::move(name), std::move(row));
}

Result<Keyed<model::PeerPod>> decode_peer_pod(std::string_view bytes) {
  k8s::Pod pod;
  FL_TRY(parse(pod, bytes));
  model::PeerPod row = project_peer_pod(pod);
  std::string uid = row.id.uid;
  return Keyed<model::PeerPod>(std::move(uid), std::move(row));
}

Result<Keyed<model::NetworkPolicy>> decode_network_policy(std::string_view bytes) {
  k8s::NetworkPolicy policy;
  FL_TRY(parse(policy, bytes));
  return keyed(project_network_policy(policy), "NetworkPolicy", policy.metadata());
}

}  // namespace fairlead::kube
