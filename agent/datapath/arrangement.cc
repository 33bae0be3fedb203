// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/arrangement.h"

#include <algorithm>
#include <numeric>

namespace fairlead::datapath {
namespace {

constexpr std::uint32_t kFree = ~0U;

std::uint64_t hash(const Backend& backend, std::uint64_t seed) {
  std::uint64_t value = 0xcbf29ce484222325 ^ seed;
  const auto add = [&](std::uint8_t byte) { value = (value ^ byte) * 0x100000001b3; };
  for (const std::uint8_t byte : backend.address.bytes()) add(byte);
  add(static_cast<std::uint8_t>(backend.port >> 8));
  add(static_cast<std::uint8_t>(backend.port));
  value = (value ^ (value >> 33)) * 0xff51afd7ed558ccd;
  value = (value ^ (value >> 33)) * 0xc4ceb9fe1a85ec53;
  return value ^ (value >> 33);
}

// Primes, each about four times the last: a table keeps its size, and with it most of its clients' backends, while
// backends come and go between two steps.
constexpr std::uint32_t kTableSizes[] = {251, 1021, 4093, 16'381, 65'521, 262'139, 1'048'573};
constexpr std::size_t kSlotsPerBackend = 32;

std::uint32_t table_size(std::size_t backends) {
  const auto* size =
      std::ranges::find_if(kTableSizes, [&](std::uint32_t s) { return s >= kSlotsPerBackend * backends; });
  return size == std::end(kTableSizes) ? *std::rbegin(kTableSizes) : *size;
}

// Each backend in turn takes the first free slot of its own permutation of the table; one that weighs less than the
// heaviest sits turns out.
std::vector<std::uint32_t> maglev_table(std::span<const Backend> backends, std::span<const std::uint32_t> weights) {
  const std::uint32_t size = table_size(backends.size());
  const std::uint64_t heaviest = weights.empty() ? 1 : std::ranges::max(weights);
  struct Turn {
    std::uint64_t at, skip, due = 0;
  };
  std::vector<Turn> turns;
  for (const Backend& backend : backends) {
    turns.push_back({.at = hash(backend, 1) % size, .skip = hash(backend, 2) % (size - 1) + 1});
  }
  std::vector<std::uint32_t> table(size, kFree);
  for (std::uint64_t round = 1, filled = 0;; ++round) {
    for (std::uint32_t i = 0; i < turns.size(); ++i) {
      Turn& turn = turns[i];
      if (round * (weights.empty() ? 1 : weights[i]) < turn.due) continue;
      turn.due += heaviest;
      while (table[turn.at] != kFree) turn.at = (turn.at + turn.skip) % size;
      table[turn.at] = i;
      if (++filled == size) return table;
    }
  }
}

// The k-th of a backend's w places is at (k + 1/2) / w of the way.
std::vector<std::uint32_t> interleave(std::span<const std::uint32_t> weights) {
  const std::uint32_t unit =
      std::accumulate(weights.begin(), weights.end(), 0U, std::gcd<std::uint32_t, std::uint32_t>);
  struct Place {
    std::uint64_t way, of;
    std::uint32_t backend;
  };
  std::vector<Place> places;
  for (std::uint32_t i = 0; i < weights.size(); ++i) {
    const std::uint64_t weight = weights[i] / unit;
    for (std::uint64_t k = 0; k < weight; ++k) places.push_back({2 * k + 1, 2 * weight, i});
  }
  std::ranges::stable_sort(places, [](const Place& a, const Place& b) { return a.way * b.of < b.way * a.of; });
  std::vector<std::uint32_t> order;
  std::ranges::transform(places, std::back_inserter(order), &Place::backend);
  return order;
}

}  // namespace

std::vector<std::uint32_t> arrange(Balancing balancing, std::span<const Backend> backends,
                                   std::span<const std::uint32_t> weights) {
  if (backends.empty()) return {};
  switch (balancing) {
    case Balancing::kRandom:
    case Balancing::kRoundRobin:
      if (!weights.empty()) return interleave(weights);
      break;
    case Balancing::kLeastConnections:
      break;
    case Balancing::kSourceHash:
    case Balancing::kDestinationHash:
    case Balancing::kMaglev:
      return maglev_table(backends, weights);
  }
  std::vector<std::uint32_t> order(backends.size());
  std::iota(order.begin(), order.end(), 0U);
  return order;
}

}  // namespace fairlead::datapath
