// SPDX-License-Identifier: Apache-2.0
#include "agent/network/capabilities.h"

#include <strings.h>

#include <algorithm>
#include <cctype>
#include <limits>

namespace fairlead::network {
namespace {

constexpr std::uint64_t kLeastRate = 1'000;  // bits a second: less would let a full-size packet wait for ever

// Member `name`, in whatever case: containerd writes "HostPort" and "IngressRate", and the reference plugins, being in
// Go, read it. The conventions' own spelling wins. Null where there is none.
const Json& member(const Json& object, const char* name) {
  static const Json none;
  if (const auto at = object.find(name); at != object.end()) return *at;
  for (const auto& [key, value] : object.items()) {
    if (strcasecmp(key.c_str(), name) == 0) return value;
  }
  return none;
}

Result<std::uint64_t> number(const Json& object, const std::string& where, const char* name, std::uint64_t most) {
  const Json& value = member(object, name);
  if (value.is_null()) return 0;
  if (!value.is_number_integer() || (!value.is_number_unsigned() && value.get<std::int64_t>() < 0) ||
      value.get<std::uint64_t>() > most) {
    return fail(Code::kInvalid, "{}.{}: {}: want 0 to {}", where, name, value.dump(), most);
  }
  return value.get<std::uint64_t>();
}

Result<std::string> text(const Json& object, const std::string& where, const char* name) {
  const Json& value = member(object, name);
  if (value.is_null()) return std::string();
  if (!value.is_string()) return fail(Code::kInvalid, "{}.{}: want a string", where, name);
  return value.get<std::string>();
}

Result<Protocol> protocol(const std::string& name, const std::string& where) {
  std::string upper = name;
  std::ranges::transform(upper, upper.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  if (upper.empty() || upper == "TCP") return Protocol::kTcp;
  if (upper == "UDP") return Protocol::kUdp;
  if (upper == "SCTP") return Protocol::kSctp;
  return fail(Code::kInvalid, "{}.protocol: \"{}\": want tcp, udp or sctp", where, name);
}

Result<PortMapping> port_mapping(const Json& json, const std::string& where) {
  if (!json.is_object()) return fail(Code::kInvalid, "{}: want an object", where);
  constexpr std::uint64_t kMost = std::numeric_limits<std::uint16_t>::max();
  PortMapping mapping;
  FL_LET(const std::uint64_t host, number(json, where, "hostPort", kMost));
  FL_LET(const std::uint64_t container, number(json, where, "containerPort", kMost));
  mapping.host_port = static_cast<std::uint16_t>(host);
  mapping.container_port = static_cast<std::uint16_t>(container);
  if (host != 0 && container == 0) return fail(Code::kInvalid, "{}.containerPort: want 1 to {}", where, kMost);
  FL_LET(const std::string name, text(json, where, "protocol"));
  FL_LET(mapping.protocol, protocol(name, where));
  FL_LET(const std::string address, text(json, where, "hostIP"));
  if (!address.empty()) {
    auto parsed = IpAddress::parse(address);
    if (!parsed) return fail_with(std::move(parsed).error(), where + ".hostIP");
    mapping.host_ip = *parsed;
  }
  return mapping;
}

Result<std::vector<PortMapping>> port_mappings(const Json& json) {
  std::vector<PortMapping> all;
  if (json.is_null()) return all;
  if (!json.is_array()) return fail(Code::kInvalid, "runtimeConfig.portMappings: want a list");
  for (std::size_t i = 0; i < json.size(); ++i) {
    const std::string where = fmt::format("runtimeConfig.portMappings[{}]", i);
    FL_LET(PortMapping mapping, port_mapping(json[i], where));
    if (mapping.host_port == 0 || std::ranges::count(all, mapping) != 0) continue;
    const auto other = std::ranges::find_if(all, [&](const PortMapping& each) { return collide(each, mapping); });
    if (other != all.end()) return fail(Code::kInvalid, "{}: {} and {} collide", where, mapping.str(), other->str());
    all.push_back(std::move(mapping));
  }
  return all;
}

Result<Bandwidth> bandwidth(const Json& json) {
  Bandwidth out;
  if (json.is_null()) return out;
  const std::string where = "runtimeConfig.bandwidth";
  if (!json.is_object()) return fail(Code::kInvalid, "{}: want an object", where);
  constexpr std::uint64_t kMost = std::numeric_limits<std::int64_t>::max();
  for (const auto& [name, field] : {std::pair{"ingressRate", &out.ingress_rate},
                                    {"ingressBurst", &out.ingress_burst},
                                    {"egressRate", &out.egress_rate},
                                    {"egressBurst", &out.egress_burst}}) {
    FL_LET(*field, number(json, where, name, kMost));
  }
  for (const auto& [name, rate] : {std::pair{"ingressRate", out.ingress_rate}, {"egressRate", out.egress_rate}}) {
    if (rate != 0 && rate < kLeastRate) {
      return fail(Code::kInvalid, "{}.{}: {}: want at least {} bits a second", where, name, rate, kLeastRate);
    }
  }
  return out;
}

Result<std::vector<IpAddress>> addresses(const Json& json) {
  std::vector<IpAddress> all;
  if (json.is_null()) return all;
  if (!json.is_array()) return fail(Code::kInvalid, "runtimeConfig.ips: want a list");
  for (std::size_t i = 0; i < json.size(); ++i) {
    const std::string where = fmt::format("runtimeConfig.ips[{}]", i);
    if (!json[i].is_string()) return fail(Code::kInvalid, "{}: want a string", where);
    const auto given = json[i].get<std::string>();
    auto address = IpAddress::parse(given.substr(0, given.find('/')));  // a prefix says nothing that we do not know
    if (!address) return fail_with(std::move(address).error(), where);
    if (std::ranges::count(all, address->family(), &IpAddress::family) != 0) {
      return fail(Code::kInvalid, "{}: {}: a pod has one address of a family", where, *address);
    }
    all.push_back(*address);
  }
  return all;
}

Result<std::optional<Mac>> hardware_address(const Json& json) {
  if (json.is_null()) return std::nullopt;
  if (!json.is_string()) return fail(Code::kInvalid, "runtimeConfig.mac: want a string");
  const auto mac = parse_mac(json.get<std::string>());
  if (!mac) return fail(Code::kInvalid, "runtimeConfig.mac: \"{}\" is no MAC address", json.get<std::string>());
  if ((mac->front() & 1U) != 0 || *mac == Mac{}) {
    return fail(Code::kInvalid, "runtimeConfig.mac: {} is no single station's", json.get<std::string>());
  }
  return *mac;
}

}  // namespace

std::string PortMapping::str() const {
  const std::string address = !host_ip ? "*" : host_ip->is_v4() ? host_ip->str() : "[" + host_ip->str() + "]";
  return fmt::format("{}:{}/{}", address, host_port, to_string(protocol));
}

bool collide(const PortMapping& a, const PortMapping& b) {
  if (a.host_port != b.host_port || a.protocol != b.protocol) return false;
  if (!a.host_ip || !b.host_ip || *a.host_ip == *b.host_ip) return true;
  return a.host_ip->family() == b.host_ip->family() && (a.host_ip->is_unspecified() || b.host_ip->is_unspecified());
}

Result<Capabilities> parse_capabilities(const Json& runtime_config) {
  Capabilities out;
  if (runtime_config.is_null()) return out;
  if (!runtime_config.is_object()) return fail(Code::kInvalid, "runtimeConfig: want an object");
  FL_LET(out.port_mappings, port_mappings(member(runtime_config, "portMappings")));
  FL_LET(out.bandwidth, bandwidth(member(runtime_config, "bandwidth")));
  FL_LET(out.ips, addresses(member(runtime_config, "ips")));
  FL_LET(out.mac, hardware_address(member(runtime_config, "mac")));
  return out;
}

Json to_json(const Capabilities& capabilities) {
  Json json = Json::object();
  for (const PortMapping& mapping : capabilities.port_mappings) {
    Json entry{{"hostPort", mapping.host_port},
               {"containerPort", mapping.container_port},
               {"protocol", to_string(mapping.protocol)}};
    if (mapping.host_ip) entry["hostIP"] = mapping.host_ip->str();
    json["portMappings"].push_back(std::move(entry));
  }
  const Bandwidth& limits = capabilities.bandwidth;
  for (const auto& [name, value] : {std::pair{"ingressRate", limits.ingress_rate},
                                    {"ingressBurst", limits.ingress_burst},
                                    {"egressRate", limits.egress_rate},
                                    {"egressBurst", limits.egress_burst}}) {
    if (value != 0) json["bandwidth"][name] = value;
  }
  for (const IpAddress& ip : capabilities.ips) json["ips"].push_back(ip.str());
  if (capabilities.mac) json["mac"] = to_string(*capabilities.mac);
  return json;
}

}  // namespace fairlead::network
