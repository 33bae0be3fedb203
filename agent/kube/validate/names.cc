// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/validate/names.h"

#include <algorithm>

#include "agent/base/result.h"

namespace fairlead::kube {
namespace {

bool lower(char c) {
  return c >= 'a' && c <= 'z';
}
bool digit(char c) {
  return c >= '0' && c <= '9';
}
bool letter(char c) {
  return lower(c) || (c >= 'A' && c <= 'Z');
}
bool alnum(char c) {
  return letter(c) || digit(c);
}
bool lower_alnum(char c) {
  return lower(c) || digit(c);
}

std::string too_long(std::size_t limit) {
  return fmt::format("must be no more than {} characters", limit);
}

constexpr const char* kLabelRule =
    "must consist of lower case letters, digits and '-', and start and end with a letter or digit (RFC 1123 label)";
constexpr const char* kSubdomainRule =
    "must consist of lower case letters, digits, '-' and '.', each part starting and ending with a letter or digit "
    "(RFC 1123 subdomain)";
constexpr const char* kSearchRule =
    "must consist of lower case letters, digits, '_', '-' and '.', each part starting and ending with a letter or "
    "digit";
constexpr const char* kQualifiedRule =
    "must consist of letters, digits, '-', '_' and '.', and start and end with a letter or digit";

bool label_shape(std::string_view text) {
  return !text.empty() && lower_alnum(text.front()) && lower_alnum(text.back()) &&
         std::ranges::all_of(text, [](char c) { return lower_alnum(c) || c == '-'; });
}

// A label of a search path: underscores too, and one in front.
bool search_shape(std::string_view text) {
  if (text.starts_with('_')) text.remove_prefix(1);
  return !text.empty() && lower_alnum(text.front()) && lower_alnum(text.back()) &&
         std::ranges::all_of(text, [](char c) { return lower_alnum(c) || c == '-' || c == '_'; });
}

// Whether each part between dots has the shape.
bool each_part(std::string_view text, bool (*shape)(std::string_view)) {
  for (std::string_view rest = text;;) {
    const std::size_t dot = rest.find('.');
    if (!shape(rest.substr(0, dot))) return false;
    if (dot == rest.npos) return true;
    rest.remove_prefix(dot + 1);
  }
}

bool qualified_shape(std::string_view text) {
  return !text.empty() && alnum(text.front()) && alnum(text.back()) &&
         std::ranges::all_of(text, [](char c) { return alnum(c) || c == '-' || c == '_' || c == '.'; });
}

}  // namespace

std::string not_dns_label(std::string_view text) {
  if (text.size() > 63) return too_long(63);
  return label_shape(text) ? "" : kLabelRule;
}

std::string not_dns_subdomain(std::string_view text) {
  if (text.size() > 253) return too_long(253);
  return each_part(text, label_shape) ? "" : kSubdomainRule;
}

std::string not_search_path(std::string_view text) {
  if (text.size() > 253) return too_long(253);
  return each_part(text, search_shape) ? "" : kSearchRule;
}

std::string not_port_name(std::string_view text) {
  if (text.size() > 15) return too_long(15);
  if (!label_shape(text)) return "must consist of lower case letters, digits and '-', not at its ends";
  if (std::ranges::none_of(text, lower)) return "must contain at least one letter";
  return text.find("--") == text.npos ? "" : "must not contain consecutive hyphens";
}

std::string not_label_key(std::string_view text) {
  const std::size_t slash = text.find('/');
  const std::string_view name = slash == text.npos ? text : text.substr(slash + 1);
  if (slash != text.npos) {
    if (std::string why = not_dns_subdomain(text.substr(0, slash)); !why.empty()) return "prefix part " + why;
  }
  if (name.size() > 63) return "name part " + too_long(63);
  return qualified_shape(name) ? "" : std::string("name part ") + kQualifiedRule;
}

std::string not_label_value(std::string_view text) {
  if (text.size() > 63) return too_long(63);
  return text.empty() || qualified_shape(text) ? "" : kQualifiedRule;
}

std::string not_env_name(std::string_view text) {
  // Any printable ASCII but '=', as the API allows since 1.34.
  const bool good = !text.empty() && std::ranges::all_of(text, [](char c) { return c >= ' ' && c <= '~' && c != '='; });
  return good ? "" : "must consist of printable ASCII characters other than '='";
}

std::string not_config_key(std::string_view text) {
  if (text.size() > 253) return too_long(253);
  if (text == "." || text.starts_with("..")) return "must not be '.', '..' or start with '..'";
  const bool good =
      !text.empty() && std::ranges::all_of(text, [](char c) { return alnum(c) || c == '-' || c == '_' || c == '.'; });
  return good ? "" : "must consist of letters, digits, '-', '_' and '.'";
}

}  // namespace fairlead::kube
