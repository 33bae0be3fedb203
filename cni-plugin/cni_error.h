// SPDX-License-Identifier: Apache-2.0
// How a CNI plugin says that it failed (CNI spec 1.1, section 5, "Error").
#pragma once

#include <array>
#include <string>
#include <string_view>

#include "agent/base/local_protocol.h"

namespace fairlead::cni {

// Versions of the protocol that we speak, ascending.
inline constexpr std::array<std::string_view, 5> kVersions{"0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"};

// Error codes of the spec; 100 and up are a plugin's own.
enum class CniCode {
  kIncompatibleVersion = 1,
  kUnknownContainer = 3,
  kInvalidEnvironment = 4,
  kIo = 5,
  kDecode = 6,
  kInvalidConfig = 7,
  kTryAgain = 11,
  kNotAvailable = 50,         // STATUS: no ADD can be served
  kLimitedConnectivity = 51,  // … and containers that are there may be cut off
  kInternal = 100,
};

struct CniError {
  CniCode code = CniCode::kInternal;
  std::string message;
  std::string details = {};
};

}  // namespace fairlead::cni
