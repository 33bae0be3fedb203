// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/codec/selector.h"

#include <k8s/meta.pb.h>

#include <algorithm>

namespace fairlead::kube {

Selector Selector::from_labels(const Labels& labels) {
  Selector selector;
  for (const auto& [key, value] : labels) selector.requirements_.push_back({key, Operator::kIn, {value}});
  return selector;
}

Result<Selector> Selector::compile(const k8s::LabelSelector& message) {
  Selector selector = from_labels({message.matchlabels().begin(), message.matchlabels().end()});
  for (const k8s::LabelSelectorRequirement& expression : message.matchexpressions()) {
    Requirement requirement{expression.key(), Operator::kIn, {expression.values().begin(), expression.values().end()}};
    const std::string& op = expression.operator_();
    if (op == "In" || op == "NotIn") {
      requirement.op = op == "In" ? Operator::kIn : Operator::kNotIn;
      if (requirement.values.empty()) {
        return fail(Code::kInvalid, "selector key \"{}\": {} needs at least one value", requirement.key, op);
      }
    } else if (op == "Exists" || op == "DoesNotExist") {
      requirement.op = op == "Exists" ? Operator::kExists : Operator::kDoesNotExist;
      if (!requirement.values.empty()) {
        return fail(Code::kInvalid, "selector key \"{}\": {} takes no values", requirement.key, op);
      }
    } else {
      return fail(Code::kInvalid, "selector key \"{}\": operator \"{}\" is not In, NotIn, Exists or DoesNotExist",
                  requirement.key, op);
    }
    selector.requirements_.push_back(std::move(requirement));
  }
  std::ranges::sort(selector.requirements_);
  return selector;
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

}  // namespace fairlead::kube
