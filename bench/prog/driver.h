// SPDX-License-Identifier: Apache-2.0
// Driver: runs a program many times by BPF_PROG_RUN, with a fresh frame and the next flow each time.
#pragma once

#include <cstdint>
#include <memory>

#include "agent/base/result.h"
#include "bench/lib/statistics.h"
#include "bench/prog/drive.h"
#include "test/kit/packet.h"

struct drive_bpf;

namespace fairlead::bench {

// Which packets: `frame`, and in it two ports that say which flow it is. Frames are at least DRIVE_FRAME bytes long.
struct Traffic {
  testkit::Bytes frame;
  std::uint32_t ifindex = 0;  // the device that it is on
  std::uint32_t flows = 1;    // a power of two
  bool scattered = true;      // or in order
  std::uint32_t low_at = 0;   // offsets in the frame …
  std::uint32_t high_at = 0;  // … of the two ports (drive.h)
  std::uint16_t low_port = 20'000;
  std::uint16_t high_port = 8'000;
};

// Owner and thread: the benchmark's main.
class Driver {
 public:
  static Result<std::unique_ptr<Driver>> open();
  ~Driver();

  // From now on: this program on this traffic, from its first flow on.
  Result<> use(int program_fd, const Traffic& traffic);
  // `packets` once through the program; the nanoseconds that one took, with the driver's own.
  Result<double> run(std::uint32_t packets, drive_target target = DRIVE_PROGRAM);
  // The program's own nanoseconds a packet: `rounds` runs of `packets` each, in turn with runs of nothing.
  Result<Estimate> measure(std::size_t rounds, std::uint32_t packets);
  // What the program returned last.
  int action() const { return action_; }

 private:
  explicit Driver(drive_bpf* skeleton);

  struct Destroy {
    void operator()(drive_bpf* skeleton) const;
  };
  std::unique_ptr<drive_bpf, Destroy> skeleton_;
  Traffic traffic_;
  int action_ = 0;
};

}  // namespace fairlead::bench
