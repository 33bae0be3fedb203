// SPDX-License-Identifier: Apache-2.0
// systemd's readiness protocol: a datagram to the socket that NOTIFY_SOCKET names.
#pragma once

#include <string_view>

#include "agent/base/result.h"

namespace fairlead::server {

// Sends `state` ("READY=1", "STOPPING=1"). Does nothing where no service manager asked to be told.
Result<> notify_systemd(std::string_view state);

}  // namespace fairlead::server
