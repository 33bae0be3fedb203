// SPDX-License-Identifier: Apache-2.0
#include "agent/network/attachment.h"

#include <algorithm>

#include "agent/base/cni_spool.h"

namespace fairlead::network {
namespace {

constexpr std::string_view kAliasPrefix = "fairlead/";

// FNV-1a: spreads keys over device names; nobody gains by a collision, which fails the ADD.
std::uint64_t hash(std::string_view text) {
  std::uint64_t value = 0xcbf29ce484222325ULL;
  for (const char c : text) {
    value ^= static_cast<std::uint8_t>(c);
    value *= 0x100000001b3ULL;
  }
  return value;
}

Mac mac_of(std::string_view text) {
  const std::uint64_t value = hash(text);
  Mac mac{0x0a};  // locally administered, unicast
  for (unsigned i = 1; i < mac.size(); ++i) mac[i] = static_cast<std::uint8_t>(value >> (8 * i));
  return mac;
}

Result<std::string> text_arg(const Json& args, const char* name) {
  const auto at = args.find(name);
  if (at == args.end()) return std::string();
  if (!at->is_string()) return fail(Code::kInvalid, "argument {}: want a string", name);
  return at->get<std::string>();
}

// Member `name` of an object, where it is a string.
std::string text_of(const Json& object, const char* name) {
  const auto at = object.find(name);
  return at != object.end() && at->is_string() ? at->get<std::string>() : std::string();
}

// Member `name` of an object: its elements that are objects.
Json list_of(const Json& object, const char* name) {
  Json list = Json::array();
  const auto at = object.find(name);
  if (at == object.end() || !at->is_array()) return list;
  for (const Json& element : *at) list.push_back(element.is_object() ? element : Json::object());
  return list;
}

}  // namespace

const IpAddress& gateway(Family family) {
  static const IpAddress v4 = IpAddress::from_v4({169, 254, 1, 1});
  static const IpAddress v6 = IpAddress::from_v6({0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1});
  return family == Family::kV4 ? v4 : v6;
}

Result<Attachment> parse_attachment(const Json& args, bool need_netns) {
  if (!args.is_object()) return fail(Code::kInvalid, "arguments: want an object");
  Attachment out;
  for (const auto& [name, field] : {std::pair{"container", &out.container},
                                    {"ifname", &out.ifname},
                                    {"netns", &out.netns},
                                    {"podNamespace", &out.pod_ns},
                                    {"podName", &out.pod_name},
                                    {"podUid", &out.pod_uid},
                                    {"network", &out.network}}) {
    FL_LET(*field, text_arg(args, name));
  }
  if (!is_container_id(out.container))
    return fail(Code::kInvalid, "argument container: \"{}\" is no container id", out.container);
  if (!is_interface_name(out.ifname))
    return fail(Code::kInvalid, "argument ifname: \"{}\" is no device name", out.ifname);
  if (need_netns && !out.netns.starts_with('/')) {
    return fail(Code::kInvalid, "argument netns: \"{}\" is no absolute path", out.netns);
  }
  const auto asked = args.find("runtimeConfig");
  auto capabilities = parse_capabilities(asked == args.end() ? Json() : *asked);
  if (!capabilities) return fail(Code::kInvalid, "argument {}", capabilities.error().what);
  out.asked = std::move(*capabilities);
  return out;
}

std::string device_name(const Attachment& attachment) {
  return fmt::format("fl{:013x}", hash(attachment.key()) >> 12);
}

std::string device_alias(const Attachment& attachment) {
  return std::string(kAliasPrefix) + attachment.key();
}

Result<Attachment> parse_device_alias(const std::string& alias) {
  const std::size_t slash = alias.rfind('/');
  if (!alias.starts_with(kAliasPrefix) || slash < kAliasPrefix.size()) {
    return fail(Code::kNotFound, "\"{}\" is no alias of ours", alias);
  }
  Attachment out;
  out.container = alias.substr(kAliasPrefix.size(), slash - kAliasPrefix.size());
  out.ifname = alias.substr(slash + 1);
  return out;
}

Mac pod_mac(const Attachment& attachment) {
  return attachment.asked.mac.value_or(mac_of(attachment.key() + "/pod"));
}

Mac host_mac(const Attachment& attachment) {
  return mac_of(attachment.key() + "/host");
}

Json cni_result(const Attachment& attachment, std::uint32_t mtu) {
  const Json host{{"name", device_name(attachment)}, {"mac", to_string(host_mac(attachment))}, {"mtu", mtu}};
  const Json pod{{"name", attachment.ifname},
                 {"mac", to_string(pod_mac(attachment))},
                 {"mtu", mtu},
                 {"sandbox", attachment.netns}};
  Json ips = Json::array();
  Json routes = Json::array();
  for (const IpAddress& address : attachment.addresses) {
    const std::string through = gateway(address.family()).str();
    ips.push_back({{"interface", 1}, {"address", Cidr::host(address).str()}, {"gateway", through}});
    routes.push_back({{"dst", address.is_v4() ? "0.0.0.0/0" : "::/0"}, {"gw", through}});
  }
  return {{"interfaces", Json::array({host, pod})}, {"ips", ips}, {"routes", routes}};
}

Result<> compare(const Attachment& attachment, const Json& previous) {
  const Json interfaces = list_of(previous, "interfaces");
  const auto ours = std::ranges::find_if(interfaces, [&](const Json& each) {
    return text_of(each, "name") == attachment.ifname && text_of(each, "sandbox") == attachment.netns;
  });
  if (ours == interfaces.end()) {
    return fail(Code::kConflict, "prevResult.interfaces: no {} in {}", attachment.ifname, attachment.netns);
  }
  const std::string mac = text_of(*ours, "mac");
  if (!mac.empty() && parse_mac(mac) != pod_mac(attachment)) {
    return fail(Code::kConflict, "prevResult.interfaces: {} has {}, not {}", attachment.ifname,
                to_string(pod_mac(attachment)), mac);
  }
  const auto index = static_cast<std::size_t>(ours - interfaces.begin());
  std::vector<std::string> named;
  for (const Json& ip : list_of(previous, "ips")) {
    const auto of = ip.find("interface");
    if (of != ip.end() && of->is_number_integer() && of->get<std::size_t>() == index) {
      named.push_back(text_of(ip, "address"));
    }
  }
  for (const IpAddress& address : attachment.addresses) {
    if (std::ranges::count(named, Cidr::host(address).str()) == 0) {
      return fail(Code::kConflict, "prevResult.ips: {} of {} is not among them", address, attachment.ifname);
    }
  }
  if (named.size() != attachment.addresses.size()) {
    return fail(Code::kConflict, "prevResult.ips: {} addresses of {}, which has {}", named.size(), attachment.ifname,
                attachment.addresses.size());
  }
  return {};
}

Result<GarbageList> parse_garbage_list(const Json& args) {
  if (!args.is_object()) return fail(Code::kInvalid, "arguments: want an object");
  GarbageList out;
  FL_LET(out.network, text_arg(args, "network"));
  const auto valid = args.find("valid");
  if (valid == args.end() || !valid->is_array()) return fail(Code::kInvalid, "argument valid: want a list");
  for (const Json& each : *valid) {
    Attachment named;
    named.container = text_of(each, "containerID");
    named.ifname = text_of(each, "ifname");
    if (named.container.empty() || named.ifname.empty()) {
      return fail(Code::kInvalid, "argument valid: want objects of containerID and ifname");
    }
    out.valid.insert(named.key());
  }
  return out;
}

Json to_json(const Attachment& attachment) {
  Json addresses = Json::array();
  for (const IpAddress& address : attachment.addresses) addresses.push_back(address.str());
  Json json{
      {"container", attachment.container}, {"ifname", attachment.ifname},    {"netns", attachment.netns},
      {"podNamespace", attachment.pod_ns}, {"podName", attachment.pod_name}, {"podUid", attachment.pod_uid},
      {"network", attachment.network},     {"addresses", addresses},         {"netnsCookie", attachment.netns_cookie},
      {"addedNs", attachment.added_ns}};
  if (Json asked = to_json(attachment.asked); !asked.empty()) json["runtimeConfig"] = std::move(asked);
  return json;
}

Result<Attachment> from_json(const Json& json) {
  FL_LET(Attachment out, parse_attachment(json, false));
  const auto addresses = json.find("addresses");
  const auto cookie = json.find("netnsCookie");
  if (addresses == json.end() || !addresses->is_array()) return fail(Code::kInvalid, "{}: no addresses", out.key());
  if (cookie == json.end() || !cookie->is_number_unsigned())
    return fail(Code::kInvalid, "{}: no netnsCookie", out.key());
  out.netns_cookie = cookie->get<std::uint64_t>();
  if (const auto added = json.find("addedNs"); added != json.end() && added->is_number_integer()) {
    out.added_ns = added->get<std::int64_t>();
  }
  for (const Json& text : *addresses) {
    if (!text.is_string()) return fail(Code::kInvalid, "{}: addresses: want strings", out.key());
    FL_LET(const IpAddress address, IpAddress::parse(text.get<std::string>()));
    out.addresses.push_back(address);
  }
  return out;
}

}  // namespace fairlead::network
