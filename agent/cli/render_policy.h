// SPDX-License-Identifier: Apache-2.0
// What fairleadctl shows of policy. Pure.
#pragma once

#include <string>

#include "agent/base/local_protocol.h"

namespace fairlead::cli {

// `policy get`: both directions of a pod, rule by rule.
std::string render_policy(const Json& policy);

// `policy trace`: the verdict, and what decided on each side.
std::string render_trace(const Json& trace);

}  // namespace fairlead::cli
