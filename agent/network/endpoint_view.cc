// SPDX-License-Identifier: Apache-2.0
// Network: what it tells about endpoints.
#include <algorithm>

#include "agent/network/network.h"

namespace fairlead::network {

Json Network::list() const {
  Json all = Json::array();
  for (const auto& [key, endpoint] : endpoints_) all.push_back(describe(endpoint));
  return all;
}

Result<Json> Network::get(const Json& args) const {
  const auto name = args.is_object() ? args.find("name") : args.end();
  if (!args.is_object() || name == args.end() || !name->is_string())
    return fail(Code::kInvalid, "argument name: want a string");
  const auto wanted = name->get<std::string>();
  for (const auto& [key, endpoint] : endpoints_) {
    const Attachment& attachment = endpoint.attachment;
    const bool by_address =
        std::ranges::any_of(attachment.addresses, [&](const auto& ip) { return ip.str() == wanted; });
    if (by_address || wanted == attachment.container || wanted == attachment.pod() ||
        wanted == device_name(attachment)) {
      return describe(endpoint);
    }
  }
  return fail(Code::kNotFound, "no endpoint \"{}\"", wanted);
}

Json Network::describe(const Endpoint& endpoint) const {
  Json json = to_json(endpoint.attachment);
  const bool unwell = unwell_.contains(endpoint.attachment.key());
  json["state"] = endpoint.ifindex == 0 ? "gone" : unwell ? "broken" : "up";
  json["hostPorts"] = Json::array();
  for (const PortMapping& mapping : endpoint.attachment.asked.port_mappings) {
    json["hostPorts"].push_back(fmt::format("{}->{}", mapping.str(), mapping.container_port));
  }
  json["device"] = device_name(endpoint.attachment);
  json["ifindex"] = endpoint.ifindex;
  json["mac"] = to_string(pod_mac(endpoint.attachment));
  json["hostMac"] = to_string(host_mac(endpoint.attachment));
  return json;
}

}  // namespace fairlead::network
