// SPDX-License-Identifier: Apache-2.0
// FieldError: what is wrong with one field of an object; what decoding, validation and the field table all answer with.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace fairlead::kube {

struct FieldError {
  std::string field;   // path as the API writes it: "spec.containers[0].image"; empty for the whole object
  std::string reason;  // "Required value"
  unsigned line = 0;   // in the text it was read from, from 1; 0: unknown
  std::string str() const { return field.empty() ? reason : field + ": " + reason; }
  auto operator<=>(const FieldError&) const = default;
};

using FieldErrors = std::vector<FieldError>;

// "file:line: field: reason", without the line where it is unknown.
inline std::string locate(std::string_view file, const FieldError& error) {
  std::string text(file);
  if (error.line != 0) text += ":" + std::to_string(error.line);
  return text + ": " + error.str();
}

}  // namespace fairlead::kube
