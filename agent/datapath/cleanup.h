// SPDX-License-Identifier: Apache-2.0
// What `fairlead-agent cleanup` does to the kernel's side.
#pragma once

#include <string>

#include "agent/base/result.h"

namespace fairlead::datapath {

// Unpins every link and map below the bpf root and removes its folders: the socket hooks end, connections that they set
// up live on. kDenied while an agent holds the root; kNotFound where there is none.
Result<> remove_pins(const std::string& bpf_root);

}  // namespace fairlead::datapath
