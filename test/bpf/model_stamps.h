// SPDX-License-Identifier: Apache-2.0
// Stamps: every time that the data path has written down, for tests that let time pass by shifting them.
#pragma once

#include <chrono>
#include <memory>
#include <vector>

#include "agent/base/result.h"
#include "agent/datapath/bpf_root.h"
#include "agent/datapath/mapped_array.h"
#include "bpf/abi/conntrack.h"

namespace fairlead::model {

// Owner and thread: the test. The programs' own timers run meanwhile: a connection is changed by one compare-and-swap.
class Stamps {
 public:
  // `jiffies`: the kernel's now, the low 32 bits.
  static Result<std::unique_ptr<Stamps>> open(const datapath::BpfRoot& root, std::uint32_t jiffies);

  // Makes everything that lives older by `time`, less what has really passed since the last call.
  Result<> age(std::chrono::milliseconds time);
  // How long ago that was.
  std::chrono::nanoseconds since_aged() const { return std::chrono::steady_clock::now() - aged_; }
  // Makes everything too old.
  Result<> end_all();

 private:
  // One family's maps.
  template <class Slot>
  struct Slots {
    datapath::MappedArray<Slot> slots;
    UniqueFd fragments;
    UniqueFd affinities;
  };
  Stamps(Slots<ct_slot_v4> v4, Slots<ct_slot_v6> v6, UniqueFd shards, std::uint32_t hz, std::uint32_t jiffies)
      : v4_(std::move(v4)), v6_(std::move(v6)), shards_(std::move(shards)), hz_(hz), jiffies_(jiffies) {}

  std::uint32_t jiffies_now() const {
    return jiffies_ + static_cast<std::uint32_t>((std::chrono::steady_clock::now() - opened_) * hz_ /
                                                 std::chrono::nanoseconds(std::chrono::seconds(1)));
  }

  // `change(deadline)` for each living connection of a family: 0 for IPv4, 1 for IPv6.
  template <class Slot, class Change>
  Result<> for_each_connection(Slots<Slot>& family, std::uint32_t number, Change change);

  Slots<ct_slot_v4> v4_;
  Slots<ct_slot_v6> v6_;
  UniqueFd shards_;
  std::uint32_t hz_;
  std::uint32_t jiffies_;  // at that time:
  std::chrono::steady_clock::time_point opened_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point aged_ = std::chrono::steady_clock::now();
};

}  // namespace fairlead::model
