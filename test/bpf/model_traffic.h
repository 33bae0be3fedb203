// SPDX-License-Identifier: Apache-2.0
// Traffic: what happens next, at random, but near to what is interesting: few addresses and ports, so that packets meet
// Services and each other; replies and errors to what went before; now and then nonsense.
#pragma once

#include <deque>
#include <random>
#include <vector>

#include "test/bpf/model_world.h"

namespace fairlead::model {

// Owner and thread: the test. The same seed and the same outcomes give the same steps.
class Traffic {
 public:
  Traffic(std::uint64_t seed, const std::vector<testkit::Pod>& pods) : random_(seed), pods_(pods) {}

  Step next();
  // What came of `step`, which next() gave.
  void saw(const Step& step, const Outcome& outcome);

 private:
  // A packet that went on.
  struct Seen {
    Step step;                            // as it came …
    Bytes frame;                          // … and as it went on
    std::optional<std::size_t> receiver;  // the pod that has it now; or the host stack has, or the world outside
  };

  std::size_t below(std::size_t limit) { return std::uniform_int_distribution<std::size_t>(0, limit - 1)(random_); }
  bool one_in(std::size_t n) { return below(n) == 0; }
  template <class Range>
  const auto& any(const Range& range) {
    return range[below(std::size(range))];
  }

  const Seen& any_seen();

  IpAddress pod_address(Family family);
  IpAddress outside_address(Family family);
  testkit::Transport transport(Family family, std::uint16_t source, std::uint16_t destination);
  testkit::Transport transport_like(Family family, std::uint8_t protocol, std::uint16_t source,
                                    std::uint16_t destination);
  testkit::Ip ip(const IpAddress& source, const IpAddress& destination);
  Step packet_between(std::size_t pod, bool from_pod, testkit::Ip ip, const testkit::Transport& transport);

  Step fresh_packet();
  // More of what was seen: from its sender, from its receiver, by way of the host stack, or an error about it.
  Step again();
  Step reply();
  Step by_the_stack();
  Step icmp_error();
  Step arp();
  Step change();
  Step policy();
  Step bind();
  Step time();
  void damage(Bytes& frame);

  std::mt19937_64 random_;
  const bool policed_ = one_in(2);
  const std::vector<testkit::Pod>& pods_;
  std::deque<Seen> seen_;
};

}  // namespace fairlead::model
