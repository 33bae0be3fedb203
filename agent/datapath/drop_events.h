// SPDX-License-Identifier: Apache-2.0
// DropEvents: what the packet path tells of packets that it drops or rejects, as it happens.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>

#include "agent/base/ip.h"
#include "agent/base/result.h"

namespace fairlead::datapath {

class BpfPodPrograms;

// Packets of one kind (bpf/abi/event.h: the first at once, those that follow counted into the next).
struct Drop {
  std::string_view reason;     // bpf/abi/drop.h: "no_backend"
  std::uint32_t ifindex = 0;   // host-side device of the pod
  std::uint32_t isolated = 0;  // of the pod whose policy denied it; 0: another reason
  bool to_pod = false;         // else from it
  std::uint32_t packets = 0;
  std::uint32_t length = 0;   // of this one, bytes
  std::uint8_t protocol = 0;  // IPPROTO_*; 0 where headers were not read
  SocketAddress source, destination;
};

// Owner: main; thread: one loop, which watches fd(). The ring buffer has one reader: this.
class DropEvents {
 public:
  static Result<std::unique_ptr<DropEvents>> open(const BpfPodPrograms& programs);
  ~DropEvents();

  int fd() const;  // readable when there are some; stays this object's
  // Hands over what there is, without waiting.
  Result<> read(const std::function<void(const Drop&)>& visit);

 private:
  struct Ring;
  explicit DropEvents(std::unique_ptr<Ring> ring);
  std::unique_ptr<Ring> ring_;
};

}  // namespace fairlead::datapath
