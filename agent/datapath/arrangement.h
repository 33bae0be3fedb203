// SPDX-License-Identifier: Apache-2.0
// The order in which backends stand in a service's run: what an algorithm needs of it is in the order.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "agent/base/balancing.h"
#include "agent/datapath/load_balancer.h"

namespace fairlead::datapath {

// Positions in `backends` (sorted, without duplicates), each at least once. Follows from the arguments alone, so that
// every node makes the same. `weights`: one a backend, or empty. Pure.
//
// random, round robin: a backend stands as often as it weighs, spread evenly. least connections: once each. The hashes
// and maglev: a Maglev table (Eisenbud et al., NSDI 2016) of at least 32 slots a backend, in sizes four times apart: a
// backend that comes or goes moves little more than its own share of the clients, unless the size takes a step.
std::vector<std::uint32_t> arrange(Balancing balancing, std::span<const Backend> backends,
                                   std::span<const std::uint32_t> weights);

}  // namespace fairlead::datapath
