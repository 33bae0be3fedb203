// SPDX-License-Identifier: Apache-2.0
// Checker: collects field errors in the API's words; what the validators share.
#pragma once

#include <k8s/meta.pb.h>

#include <initializer_list>
#include <string>
#include <string_view>

#include "agent/base/result.h"
#include "agent/kube/codec/field_error.h"

namespace fairlead::kube {

// Owner: one validation. Not thread-safe.
class Checker {
 public:
  FieldErrors take() { return std::move(errors_); }

  void required(const std::string& field, std::string_view detail = "");
  // `why` empty: nothing to report.
  template <class Value>
  void invalid(const std::string& field, const Value& value, const std::string& why) {
    if constexpr (std::is_arithmetic_v<Value>) {
      if (!why.empty()) add(field, fmt::format("Invalid value: {}: {}", value, why));
    } else {
      if (!why.empty()) add(field, fmt::format("Invalid value: \"{}\": {}", value, why));
    }
  }
  void duplicate(const std::string& field, std::string_view value);
  void not_found(const std::string& field, std::string_view value);
  void forbidden(const std::string& field, std::string_view why);
  // One of `values`; says which there are.
  void one_of(const std::string& field, const std::string& value, std::initializer_list<std::string_view> values);
  void between(const std::string& field, std::int64_t value, std::int64_t low, std::int64_t high);
  void at_least(const std::string& field, std::int64_t value, std::int64_t low);
  void port(const std::string& field, std::int64_t value) { between(field, value, 1, 65535); }

  using NameRule = std::string (*)(std::string_view);
  // metadata: name by `rule`, namespace, labels, annotations.
  void meta(const k8s::ObjectMeta& meta, NameRule rule, bool namespaced = true);

 private:
  void add(const std::string& field, std::string reason) { errors_.push_back({field, std::move(reason)}); }
  FieldErrors errors_;
};

// "a.b[3]"
inline std::string at(std::string_view path, int index) {
  return fmt::format("{}[{}]", path, index);
}

}  // namespace fairlead::kube
