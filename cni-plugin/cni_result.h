// SPDX-License-Identifier: Apache-2.0
// What a container runtime is told (CNI spec 1.1, section 5): pure functions from the agent's answer to what is
// printed.
#pragma once

#include <expected>
#include <string>

#include "cni-plugin/cni_request.h"

namespace fairlead::cni {

// The result of ADD: the agent's, in the form of version 1.1.0, added to what earlier plugins of a chain did, with the
// configuration's dns, in the version that the request is written in. kDecode: prevResult is none.
std::expected<Json, CniError> add_result(const CniRequest& request, const Json& ours);

// Of the agent's answer to cni.status: nothing, or why no ADD can be served.
std::expected<void, CniError> status_result(const Json& answer);

// The versions that we speak, as VERSION prints them.
Json version_result(const std::string& cni_version);

// How an agent's refusal reads to a runtime.
CniError from_agent(const std::string& command, const Error& error);

// As it is printed; `cni_version` is the configuration's, or empty where that could not be read.
Json error_result(const std::string& cni_version, const CniError& error);

}  // namespace fairlead::cni
