// SPDX-License-Identifier: Apache-2.0
// What every fuzzer needs: libFuzzer's entry point and a check that counts as a finding.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace fairlead::fuzz {

// Ends the process, which libFuzzer reports with the input, unless `holds`.
inline void require(bool holds, const std::string& what) {
  if (holds) return;
  std::fprintf(stderr, "does not hold: %s\n", what.c_str());
  std::abort();
}

}  // namespace fairlead::fuzz
