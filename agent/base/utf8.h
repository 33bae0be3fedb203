// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string_view>

namespace fairlead {

// Length of the UTF-8 sequence at the front of `text`, which is not empty; 0 where it is none (overlong forms and
// surrogates included).
std::size_t utf8_length(std::string_view text);
bool is_utf8(std::string_view text);

}  // namespace fairlead
