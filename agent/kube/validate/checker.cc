// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/validate/checker.h"

#include <algorithm>

#include "agent/kube/validate/names.h"

namespace fairlead::kube {

void Checker::required(const std::string& field, std::string_view detail) {
  add(field, detail.empty() ? "Required value" : fmt::format("Required value: {}", detail));
}

void Checker::duplicate(const std::string& field, std::string_view value) {
  add(field, fmt::format("Duplicate value: \"{}\"", value));
}

void Checker::not_found(const std::string& field, std::string_view value) {
  add(field, fmt::format("Not found: \"{}\"", value));
}

void Checker::forbidden(const std::string& field, std::string_view why) {
  add(field, fmt::format("Forbidden: {}", why));
}

void Checker::one_of(const std::string& field, const std::string& value,
                     std::initializer_list<std::string_view> values) {
  if (std::ranges::find(values, value) != values.end()) return;
  add(field, fmt::format("Unsupported value: \"{}\": supported values: \"{}\"", value, fmt::join(values, "\", \"")));
}

void Checker::between(const std::string& field, std::int64_t value, std::int64_t low, std::int64_t high) {
  if (value < low || value > high)
    invalid(field, value, fmt::format("must be between {} and {}, inclusive", low, high));
}

void Checker::at_least(const std::string& field, std::int64_t value, std::int64_t low) {
  if (value < low) invalid(field, value, fmt::format("must be greater than or equal to {}", low));
}

void Checker::meta(const k8s::ObjectMeta& meta, NameRule rule, bool namespaced) {
  constexpr std::size_t kAnnotationBytes = 256U << 10;
  if (meta.name().empty()) {
    required("metadata.name");
  } else {
    invalid("metadata.name", meta.name(), rule(meta.name()));
  }
  if (namespaced) {
    invalid("metadata.namespace", meta.namespace_(), not_dns_label(meta.namespace_()));
  } else if (!meta.namespace_().empty() && meta.namespace_() != "default") {
    forbidden("metadata.namespace", "not allowed on this type");
  }
  for (const auto& [key, value] : meta.labels()) {
    invalid("metadata.labels", key, not_label_key(key));
    invalid("metadata.labels[" + key + "]", value, not_label_value(value));
  }
  std::size_t bytes = 0;
  for (const auto& [key, value] : meta.annotations()) {
    std::string low(key);  // annotation keys may be in upper case, also in their prefix
    std::ranges::transform(low, low.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    invalid("metadata.annotations", key, not_label_key(low));
    bytes += key.size() + value.size();
  }
  if (bytes > kAnnotationBytes) {
    add("metadata.annotations", fmt::format("Too long: may not be more than {} bytes", kAnnotationBytes));
  }
}

}  // namespace fairlead::kube
