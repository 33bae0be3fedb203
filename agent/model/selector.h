// SPDX-License-Identifier: Apache-2.0
// Selector: a label selector as a predicate.
#pragma once

#include <compare>
#include <map>
#include <set>
#include <string>
#include <vector>

namespace fairlead::model {

using Labels = std::map<std::string, std::string>;

// A value: every requirement must hold. Without requirements it matches everything; what an absent selector means is
// for the field that has it to say. Equal selectors have equal requirements, in whatever order they were written.
class Selector {
 public:
  enum class Operator { kIn, kNotIn, kExists, kDoesNotExist };
  struct Requirement {
    std::string key;
    Operator op = Operator::kIn;
    std::set<std::string> values;
    auto operator<=>(const Requirement&) const = default;
  };

  Selector() = default;
  explicit Selector(std::vector<Requirement> requirements);
  static Selector from_labels(const Labels& labels);

  bool matches(const Labels& labels) const;
  bool empty() const { return requirements_.empty(); }
  // "app=web,tier in (back,front),!old", as kubectl writes selectors; unlike ones differ. "" matches everything.
  std::string str() const;
  auto operator<=>(const Selector&) const = default;

 private:
  std::vector<Requirement> requirements_;  // sorted
};

}  // namespace fairlead::model
