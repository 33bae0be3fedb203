// SPDX-License-Identifier: Apache-2.0
// Copying what one BPF map holds into another one of another size or layout.
#pragma once

#include "agent/base/result.h"

namespace fairlead::datapath {

// Copies every entry of map `from` into `to`, which is new; both are descriptors. Fields by their names where the
// layouts differ. Hashes, tries and arrays, also per CPU. An array's elements beyond the new capacity may be zero only.
// kExhausted where they do not fit, kInvalid where the old layout cannot be read; the text says what a user can do.
// Cost: 0.2 µs an entry.
Result<> copy_map(int from, int to);

// Copies the entries of a hash whose keys are not in `to`: those that BPF programs have added to `from` meanwhile.
Result<> copy_missing(int from, int to);

}  // namespace fairlead::datapath
