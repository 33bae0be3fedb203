// SPDX-License-Identifier: Apache-2.0
// Selector: a label selector compiled into a predicate.
#pragma once

#include <map>
#include <set>
#include <string>
#include <vector>

#include "agent/base/result.h"

namespace k8s {
class LabelSelector;
}

namespace fairlead::kube {

// A value: every requirement must hold. Without requirements it matches everything; what an absent selector means is
// for the field that has it to say.
class Selector {
 public:
  using Labels = std::map<std::string, std::string>;
  Selector() = default;
  // matchLabels and matchExpressions; an unknown operator or a wrong number of values is an error that names the key.
  static Result<Selector> compile(const k8s::LabelSelector& selector);
  static Selector from_labels(const Labels& labels);

  bool matches(const Labels& labels) const;
  bool empty() const { return requirements_.empty(); }
  auto operator<=>(const Selector&) const = default;

 private:
  enum class Operator { kIn, kNotIn, kExists, kDoesNotExist };
  struct Requirement {
    std::string key;
    Operator op = Operator::kIn;
    std::set<std::string> values;
    auto operator<=>(const Requirement&) const = default;
  };
  std::vector<Requirement> requirements_;
};

}  // namespace fairlead::kube
