// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/manifests/pod_uid.h"

#include <k8s/pod.pb.h>
#include <openssl/sha.h>

#include <array>

#include "agent/base/result.h"
#include "agent/kube/codec/text.h"

namespace fairlead::kube {

std::string manifest_pod_uid(const std::string& node_name, const k8s::Pod& pod) {
  k8s::PodSpec spec = pod.spec();
  spec.clear_tolerations();
  spec.clear_activedeadlineseconds();
  for (k8s::Container& container : *spec.mutable_containers()) container.clear_image();
  for (k8s::Container& container : *spec.mutable_initcontainers()) container.clear_image();
  // JSON with sorted maps, not wire bytes: those may differ from one protobuf release to the next.
  const std::string text = nlohmann::json{node_name, pod.metadata().namespace_(), pod.metadata().name(),
                                          to_json(spec).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)}
                               .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  std::array<unsigned char, SHA256_DIGEST_LENGTH> hash{};
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), hash.data());
  hash[6] = static_cast<unsigned char>((hash[6] & 0x0f) | 0x80);  // version 8: made by its maker's own rule
  hash[8] = static_cast<unsigned char>((hash[8] & 0x3f) | 0x80);  // variant of RFC 9562
  std::string uid;
  for (std::size_t i = 0; i < 16; ++i) {
    if (i == 4 || i == 6 || i == 8 || i == 10) uid += '-';
    uid += fmt::format("{:02x}", hash[i]);
  }
  return uid;
}

}  // namespace fairlead::kube
