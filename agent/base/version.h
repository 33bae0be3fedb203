// SPDX-License-Identifier: Apache-2.0
// The version of this build, as "0.1.0".
#pragma once

#include <string_view>

namespace fairlead {

std::string_view version();

}  // namespace fairlead
