// SPDX-License-Identifier: Apache-2.0
// fairleadctl as a function, so that tests run it whole.
#pragma once

#include <iosfwd>

namespace fairlead::cli {

// Runs one command line; returns the exit code: 0, 1 (the agent is away, refuses or is not ready), 2 (wrong usage).
int run(int argc, const char* const* argv, std::ostream& out, std::ostream& err);

}  // namespace fairlead::cli
