// SPDX-License-Identifier: Apache-2.0
// Label selectors out of the API's messages.
#pragma once

#include "agent/base/result.h"
#include "agent/model/selector.h"

namespace k8s {
class LabelSelector;
}

namespace fairlead::kube {

// matchLabels and matchExpressions; an unknown operator or a wrong number of values is an error that names the key.
Result<model::Selector> compile_selector(const k8s::LabelSelector& selector);

}  // namespace fairlead::kube
