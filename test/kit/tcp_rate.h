// SPDX-License-Identifier: Apache-2.0
// How fast TCP gets through between two namespaces, in steady state.
#pragma once

#include <cstddef>

#include "agent/base/result.h"
#include "test/kit/echo.h"
#include "test/kit/netns.h"

namespace fairlead::testkit {

// Bits a second of frames (Ethernet, IP and TCP with timestamps around each segment): from when the server at `at`, an
// address in `to` and a port that is free there, has got `skipped` bytes until it has got `bytes` more.
Result<double> tcp_rate(const PodNetns& from, const PodNetns& to, const Endpoint& at, std::size_t skipped,
                        std::size_t bytes);

}  // namespace fairlead::testkit
