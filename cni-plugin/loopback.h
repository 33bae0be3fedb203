// SPDX-License-Identifier: Apache-2.0
// The `loopback` plugin: a container runtime runs it for every sandbox beside the network's own, and fails where it is
// not installed.
#pragma once

#include <expected>

#include "cni-plugin/cni_request.h"

namespace fairlead::cni {

// ADD sets lo of the request's namespace up and gives the CNI result; CHECK looks; all else has nothing to do. Moves
// the process into that namespace.
std::expected<Json, CniError> run_loopback(const CniRequest& request);

}  // namespace fairlead::cni
