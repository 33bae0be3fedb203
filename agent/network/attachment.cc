// SPDX-License-Identifier: Apache-2.0
#include "agent/network/attachment.h"

#include <algorithm>
#include <cctype>

namespace fairlead::network {
namespace {

constexpr std::string_view kAliasPrefix = "fairlead/";
constexpr std::size_t kContainerLimit = 128;  // an alias has 255 bytes; runtimes use 64
constexpr std::size_t kIfnameLimit = 15;

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

// CNI spec 1.1: an alphanumeric first, then alphanumerics, "_", "." and "-".
bool is_container_id(const std::string& text) {
  return !text.empty() && text.size() <= kContainerLimit && std::isalnum(static_cast<unsigned char>(text[0])) != 0 &&
         std::ranges::all_of(text,
                             [](unsigned char c) { return std::isalnum(c) != 0 || c == '_' || c == '.' || c == '-'; });
}

bool is_ifname(const std::string& text) {
  return !text.empty() && text.size() <= kIfnameLimit && text != "." && text != ".." &&
         std::ranges::none_of(text, [](unsigned char c) { return c == '/' || c == ':' || std::isspace(c) != 0; });
}

// Versions before 1.0.0 want each address's "version".
bool names_family(const std::string& cni_version) {
  return cni_version.starts_with("0.");
}

bool names_mtu(const std::string& cni_version) {
  return cni_version == "1.1.0";
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
                                    {"podUid", &out.pod_uid}}) {
    FL_LET(*field, text_arg(args, name));
  }
  if (!is_container_id(out.container))
    return fail(Code::kInvalid, "argument container: \"{}\" is no container id", out.container);
  if (!is_ifname(out.ifname)) return fail(Code::kInvalid, "argument ifname: \"{}\" is no device name", out.ifname);
  if (need_netns && !out.netns.starts_with('/')) {
    return fail(Code::kInvalid, "argument netns: \"{}\" is no absolute path", out.netns);
  }
  return out;
}

Result<std::string> parse_cni_version(const Json& args) {
  FL_LET(std::string version, text_arg(args, "cniVersion"));
  for (const char* known : {"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"}) {
    if (version == known) return version;
  }
  return fail(Code::kInvalid, "argument cniVersion: \"{}\" is not known", version);
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
  return mac_of(attachment.key() + "/pod");
}

Mac host_mac(const Attachment& attachment) {
  return mac_of(attachment.key() + "/host");
}

Json cni_result(const Attachment& attachment, const std::string& cni_version, std::uint32_t mtu) {
  Json host{{"name", device_name(attachment)}, {"mac", to_string(host_mac(attachment))}};
  Json pod{{"name", attachment.ifname}, {"mac", to_string(pod_mac(attachment))}, {"sandbox", attachment.netns}};
  if (names_mtu(cni_version)) host["mtu"] = pod["mtu"] = mtu;
  Json ips = Json::array();
  Json routes = Json::array();
  for (const IpAddress& address : attachment.addresses) {
    Json ip{{"interface", 1}, {"address", Cidr::host(address).str()}, {"gateway", gateway(address.family()).str()}};
    if (names_family(cni_version)) ip["version"] = address.is_v4() ? "4" : "6";
    ips.push_back(std::move(ip));
    routes.push_back({{"dst", address.is_v4() ? "0.0.0.0/0" : "::/0"}, {"gw", gateway(address.family()).str()}});
  }
  return {{"cniVersion", cni_version},
          {"interfaces", Json::array({host, pod})},
          {"ips", ips},
          {"routes", routes},
          {"dns", Json::object()}};
}

Json to_json(const Attachment& attachment) {
  Json addresses = Json::array();
  for (const IpAddress& address : attachment.addresses) addresses.push_back(address.str());
  return {{"container", attachment.container},
          {"ifname", attachment.ifname},
          {"netns", attachment.netns},
          {"podNamespace", attachment.pod_ns},
          {"podName", attachment.pod_name},
          {"podUid", attachment.pod_uid},
          {"addresses", addresses},
          {"netnsCookie", attachment.netns_cookie}};
}

Result<Attachment> from_json(const Json& json) {
  FL_LET(Attachment out, parse_attachment(json, false));
  const auto addresses = json.find("addresses");
  const auto cookie = json.find("netnsCookie");
  if (addresses == json.end() || !addresses->is_array()) return fail(Code::kInvalid, "{}: no addresses", out.key());
  if (cookie == json.end() || !cookie->is_number_unsigned())
    return fail(Code::kInvalid, "{}: no netnsCookie", out.key());
  out.netns_cookie = cookie->get<std::uint64_t>();
  for (const Json& text : *addresses) {
    if (!text.is_string()) return fail(Code::kInvalid, "{}: addresses: want strings", out.key());
    FL_LET(const IpAddress address, IpAddress::parse(text.get<std::string>()));
    out.addresses.push_back(address);
  }
  return out;
}

}  // namespace fairlead::network
