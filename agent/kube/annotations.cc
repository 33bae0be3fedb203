// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/annotations.h"

#include <charconv>

namespace fairlead::kube {

Result<Balancing> read_balancing(std::string_view text) {
  if (const auto balancing = parse_balancing(text)) return *balancing;
  std::string all;
  for (const auto& [name, balancing] : kBalancingNames) all += fmt::format("{}{}", all.empty() ? "" : ", ", name);
  return fail(Code::kInvalid, "\"{}\" is not one of {}", text, all);
}

Result<std::map<std::string, std::uint32_t>> read_zone_weights(std::string_view text) {
  std::map<std::string, std::uint32_t> weights;
  for (bool more = true; more;) {
    const std::size_t comma = text.find(',');
    const std::string_view item = text.substr(0, comma);
    more = comma != std::string_view::npos;
    if (more) text.remove_prefix(comma + 1);
    const std::size_t sign = item.find('=');
    std::uint32_t weight = 0;
    const char* end = item.data() + item.size();
    if (sign == 0 || sign == std::string_view::npos) return fail(Code::kInvalid, "\"{}\": want ZONE=WEIGHT", item);
    const auto [at, error] = std::from_chars(item.data() + sign + 1, end, weight);
    if (error != std::errc{} || at != end || weight > kMaxWeight) {
      return fail(Code::kInvalid, "\"{}\": a weight is 0 to {}", item, kMaxWeight);
    }
    if (!weights.emplace(item.substr(0, sign), weight).second) {
      return fail(Code::kInvalid, "\"{}\": this zone has a weight already", item);
    }
  }
  return weights;
}

}  // namespace fairlead::kube
