// SPDX-License-Identifier: Apache-2.0
#include "agent/model/selector.h"

#include <spdlog/fmt/fmt.h>
#include <spdlog/fmt/ranges.h>

#include <algorithm>
#include <utility>

namespace fairlead::model {

Selector::Selector(std::vector<Requirement> requirements) : requirements_(std::move(requirements)) {
  std::ranges::sort(requirements_);
}

Selector Selector::from_labels(const Labels& labels) {
  std::vector<Requirement> requirements;
  for (const auto& [key, value] : labels) requirements.push_back({key, Operator::kIn, {value}});
  return Selector(std::move(requirements));
}

bool Selector::matches(const Labels& labels) const {
  return std::ranges::all_of(requirements_, [&](const Requirement& requirement) {
    const auto at = labels.find(requirement.key);
    const bool there = at != labels.end();
    switch (requirement.op) {
      case Operator::kIn:
        return there && requirement.values.contains(at->second);
      case Operator::kNotIn:
        return !there || !requirement.values.contains(at->second);
      case Operator::kExists:
        return there;
      case Operator::kDoesNotExist:
        return !there;
    }
    return false;
  });
}

std::string Selector::str() const {
  std::string all;
  for (const Requirement& each : requirements_) {
    if (!all.empty()) all += ',';
    const bool one = each.values.size() == 1;
    switch (each.op) {
      case Operator::kIn:
        all += one ? fmt::format("{}={}", each.key, *each.values.begin())
                   : fmt::format("{} in ({})", each.key, fmt::join(each.values, ","));
        break;
      case Operator::kNotIn:
        all += one ? fmt::format("{}!={}", each.key, *each.values.begin())
                   : fmt::format("{} notin ({})", each.key, fmt::join(each.values, ","));
        break;
      case Operator::kExists:
        all += each.key;
        break;
      case Operator::kDoesNotExist:
        all += "!" + each.key;
        break;
    }
  }
  return all;
}

}  // namespace fairlead::model
