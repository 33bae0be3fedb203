// SPDX-License-Identifier: Apache-2.0
#include "agent/flows/filter.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <span>

namespace fairlead::flows {
namespace {

char upper(char c) {
  return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
}

bool same_word(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, {}, upper, upper);
}

Result<std::optional<std::string>> text(const Json& args, const char* name) {
  const auto at = args.find(name);
  if (at == args.end() || at->is_null()) return std::nullopt;
  if (!at->is_string()) return fail(Code::kInvalid, "argument {}: want a text", name);
  return at->get<std::string>();
}

Result<std::optional<std::uint16_t>> number(const Json& args, const char* name) {
  FL_LET(const auto value, text(args, name));
  if (!value) return std::nullopt;
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(value->data(), value->data() + value->size(), port);
  if (error != std::errc() || end != value->data() + value->size()) {
    return fail(Code::kInvalid, "argument {}: \"{}\" is not a number from 0 to 65535", name, *value);
  }
  return port;
}

Result<std::optional<Cidr>> prefix(const Json& args, const char* name) {
  FL_LET(const auto value, text(args, name));
  if (!value) return std::nullopt;
  if (const auto address = IpAddress::parse(*value)) return Cidr::host(*address);
  auto cidr = Cidr::parse(*value, true);
  if (!cidr) return fail_with(std::move(cidr).error(), fmt::format("argument {}", name));
  return *cidr;
}

}  // namespace

Result<Filter> parse_filter(const Json& args) {
  if (!args.is_object()) return Filter{};
  Filter out;
  FL_LET(const auto family, text(args, "family"));
  if (family && *family != "4" && *family != "6") {
    return fail(Code::kInvalid, "argument family: want 4 or 6, not \"{}\"", *family);
  }
  if (family) out.family = *family == "4" ? Family::kV4 : Family::kV6;
  FL_LET(out.protocol, text(args, "protocol"));
  FL_LET(out.address, prefix(args, "address"));
  FL_LET(out.port, number(args, "port"));
  FL_LET(out.state, text(args, "state"));
  FL_LET(out.pod, text(args, "pod"));
  FL_LET(out.service, text(args, "service"));
  FL_LET(out.reason, text(args, "reason"));
  FL_LET(out.kind, text(args, "kind"));
  if (out.kind && *out.kind != "drop" && *out.kind != "flow") {
    return fail(Code::kInvalid, "argument kind: want drop or flow, not \"{}\"", *out.kind);
  }
  return out;
}

namespace {

// What holds for connections and drops alike: of `ends`, and of the pod at the device, if there is one.
bool match_ends(const Filter& filter, std::span<const SocketAddress> ends, std::uint8_t protocol, const Names& names,
                const std::string& device_pod) {
  const auto any = [&](const auto& holds) { return std::ranges::any_of(ends, holds); };
  if (filter.protocol && !same_word(*filter.protocol, protocol_name(protocol)) &&
      *filter.protocol != std::to_string(protocol)) {
    return false;
  }
  if (filter.address && !any([&](const auto& end) {
        return end.address.family() == filter.address->family() && filter.address->contains(end.address);
      })) {
    return false;
  }
  if (filter.port && !any([&](const auto& end) { return end.port == *filter.port; })) return false;
  return !filter.pod || *filter.pod == device_pod ||
         any([&](const auto& end) { return names.pod(end.address) == *filter.pod; });
}

}  // namespace

bool Filter::matches(const datapath::Connection& c, const Names& names) const {
  if (reason || (kind && *kind != "flow")) return false;
  if (family && *family != c.family) return false;
  if (state && !same_word(*state, c.state)) return false;
  if (service && names.service(c.server, c.protocol) != *service) return false;
  return match_ends(*this, std::array{c.client, c.server, c.from, c.to}, c.protocol, names, "");
}

bool Filter::matches(const datapath::Drop& drop, const Names& names) const {
  if (state || (kind && *kind != "drop")) return false;
  if (family && *family != drop.source.address.family()) return false;
  if (reason && !same_word(*reason, drop.reason)) return false;
  if (service && names.service(drop.destination, drop.protocol) != *service) return false;
  return match_ends(*this, std::array{drop.source, drop.destination}, drop.protocol, names, names.pod_at(drop.ifindex));
}

}  // namespace fairlead::flows
