// SPDX-License-Identifier: Apache-2.0
#include "agent/base/version.h"

namespace fairlead {

std::string_view version() {
  return FAIRLEAD_VERSION;
}  // of CMakeLists.txt

}  // namespace fairlead
