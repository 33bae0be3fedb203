// SPDX-License-Identifier: Apache-2.0
// What fl-echo load counts, and how it says so.
#pragma once

#include <cstdint>
#include <string>

#include "test/tools/echo/net.h"

namespace fairlead::echo {

class LoadReport {
 public:
  void connection() { ++new_connections_; }
  // Latency counts from when the request was due, not from when we came to send it.
  void answered(const std::string& backend, microseconds latency);
  void failed(const std::string& kind);

  // One line a second on stderr.
  void progress(double seconds);
  // The result: one line of JSON.
  std::string json() const;
  bool clean() const { return failed_ == 0 && !latencies_us_.empty(); }

 private:
  std::uint64_t new_connections_ = 0, failed_ = 0;
  std::map<std::string, std::uint64_t> kinds_, backends_, backends_before_;
  std::vector<std::uint32_t> latencies_us_;
};

}  // namespace fairlead::echo
