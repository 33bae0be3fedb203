// SPDX-License-Identifier: Apache-2.0
// Many probes at once between pods of a bed, by TCP and UDP, against what is expected of each.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "test/netns/nodes_bed.h"

namespace fairlead::testkit {

struct PlannedProbe {
  std::string from, to;  // keys of pods
  Endpoint target;
  std::uint8_t protocol = 0;  // IPPROTO_TCP or IPPROTO_UDP
  bool allowed = false;
};

// Owner: the test. Sockets that wait in pods for probes; nobody answers but the kernel.
class ProbeTargets {
 public:
  // `key` names the pod in probes. A port that the pod's Observer has already is served by that.
  Result<> serve(const BedPod& pod, const std::string& key, std::uint8_t protocol, std::uint16_t port);

  // Sends every probe once, waits until all that are allowed have arrived (2 s at most), and tells in words which did
  // otherwise than expected.
  std::vector<std::string> differences(const std::map<std::string, std::unique_ptr<BedPod>>& pods,
                                       const std::vector<PlannedProbe>& probes);

 private:
  struct Target {
    std::string key;
    std::uint16_t port;
    UniqueFd fd;
  };
  std::vector<Target> datagrams_;
  std::vector<UniqueFd> listeners_;
  std::uint32_t round_ = 0;
};

}  // namespace fairlead::testkit
