// SPDX-License-Identifier: Apache-2.0
// Base64 (RFC 4648, with padding), as JSON carries bytes.
#pragma once

#include <string>
#include <string_view>

#include "agent/base/result.h"

namespace fairlead::kube {

std::string base64_encode(std::string_view bytes);
// Line breaks in the text are skipped, as YAML's folded forms leave them.
Result<std::string> base64_decode(std::string_view text);

}  // namespace fairlead::kube
