// SPDX-License-Identifier: Apache-2.0
// What a container runtime asks of a CNI plugin (CNI spec 1.1, sections 2 and 5): pure functions from the environment
// and standard input to the agent's request, and from its answer to what is printed.
#pragma once

#include <expected>
#include <functional>
#include <string>

#include "agent/base/local_protocol.h"

namespace fairlead::cni {

// Error codes of the spec; 100 and up are a plugin's own.
enum class CniCode {
  kIncompatibleVersion = 1,
  kUnknownContainer = 3,
  kInvalidEnvironment = 4,
  kIo = 5,
  kDecode = 6,
  kInvalidConfig = 7,
  kTryAgain = 11,
  kInternal = 100,
};

struct CniError {
  CniCode code = CniCode::kInternal;
  std::string message;
  std::string details;
};

// The value of an environment variable; empty where it is not set.
using Environment = std::function<std::string(const char* name)>;

struct CniRequest {
  std::string command;      // ADD, DEL, CHECK or VERSION
  std::string cni_version;  // as the configuration says
  std::string socket;       // the agent's
  std::string op;           // of the local protocol; empty where no agent is needed: VERSION, and as loopback
  Json args;
  bool loopback = false;  // asked as the plugin of that name (loopback.h)
  std::string netns;
};

std::expected<CniRequest, CniError> parse_request(const Environment& environment, const std::string& configuration);

// The versions that we speak, as VERSION prints them.
Json version_result(const std::string& cni_version);

// How an agent's refusal reads to a runtime.
CniError from_agent(const std::string& command, const Error& error);

// As it is printed; `cni_version` is the configuration's, or empty where that could not be read.
Json error_result(const std::string& cni_version, const CniError& error);

}  // namespace fairlead::cni
