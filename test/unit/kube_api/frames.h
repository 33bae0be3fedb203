// SPDX-License-Identifier: Apache-2.0
// Bytes as the API server sends them: objects, lists and frames of watches, of Namespaces.
#pragma once

#include <k8s/meta.pb.h>
#include <k8s/namespace.pb.h>

#include <string>

namespace fairlead::kube {

inline std::string wrap(const std::string& raw) {
  k8s::Unknown unknown;
  unknown.mutable_typemeta()->set_kind("Any");
  unknown.set_raw(raw);
  return std::string("k8s\0", 4) + unknown.SerializeAsString();
}

inline std::string frame_of(const std::string& type, const std::string& object) {
  k8s::WatchEvent event;
  event.set_type(type);
  event.mutable_object()->set_raw(wrap(object));
  const std::string bytes = event.SerializeAsString();
  std::string out(4, '\0');
  for (int i = 0; i < 4; ++i) out[static_cast<std::size_t>(i)] = static_cast<char>(bytes.size() >> (24 - 8 * i));
  return out + bytes;
}

inline std::string frame(const std::string& type, const std::string& name, const std::string& version = "1") {
  k8s::Namespace object;
  object.mutable_metadata()->set_name(name);
  object.mutable_metadata()->set_resourceversion(version);
  return frame_of(type, object.SerializeAsString());
}

// The bookmark that ends a streamed list.
inline std::string end_of_list(const std::string& version) {
  k8s::Namespace object;
  object.mutable_metadata()->set_resourceversion(version);
  (*object.mutable_metadata()->mutable_annotations())["k8s.io/initial-events-end"] = "true";
  return frame_of("BOOKMARK", object.SerializeAsString());
}

inline std::string error_frame(int code, const std::string& message) {
  k8s::Status status;
  status.set_code(code);
  status.set_message(message);
  return frame_of("ERROR", status.SerializeAsString());
}

inline std::string page(const std::string& version, const std::string& next, std::initializer_list<const char*> names) {
  k8s::NamespaceList list;
  list.mutable_metadata()->set_resourceversion(version);
  list.mutable_metadata()->set_continue_(next);
  for (const char* name : names) {
    auto& meta = *list.add_items()->mutable_metadata();
    meta.set_name(name);
    meta.set_resourceversion(version);
  }
  return wrap(list.SerializeAsString());
}

}  // namespace fairlead::kube
