// SPDX-License-Identifier: Apache-2.0
// Installing the CNI plugin where a container runtime looks for it.
#pragma once

#include <string>

#include "agent/base/result.h"

namespace fairlead::network {

// Copies the program `source` to `bin_dir`/fairlead-cni and then writes `conf_dir`/05-fairlead.conflist, which names
// `run_dir` (where the agent's socket is). It declares what a runtime may ask for a
// pod: portMappings, bandwidth, ips and mac. Both are replaced whole, so a runtime may read them at any time; missing
// folders are made. Runtimes also run a plugin `loopback` from `bin_dir`: where there is none, the program, which
// serves as that too, is installed under this name. The order matters: a runtime that finds the configuration finds the
// program.
Result<> install_cni(const std::string& bin_dir, const std::string& conf_dir, const std::string& run_dir,
                     const std::string& source);

}  // namespace fairlead::network
