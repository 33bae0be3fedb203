// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/codec/selector.h"

#include <k8s/meta.pb.h>

#include <utility>
#include <vector>

namespace fairlead::kube {

Result<model::Selector> compile_selector(const k8s::LabelSelector& message) {
  using Operator = model::Selector::Operator;
  std::vector<model::Selector::Requirement> requirements;
  for (const auto& [key, value] : message.matchlabels()) requirements.push_back({key, Operator::kIn, {value}});
  for (const k8s::LabelSelectorRequirement& expression : message.matchexpressions()) {
    model::Selector::Requirement requirement{
        expression.key(), Operator::kIn, {expression.values().begin(), expression.values().end()}};
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
    requirements.push_back(std::move(requirement));
  }
  return model::Selector(std::move(requirements));
}

}  // namespace fairlead::kube
