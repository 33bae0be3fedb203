// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/arrangement.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>

namespace fairlead::datapath {
namespace {

using testing::ElementsAre;

std::vector<Backend> backends(std::size_t count, std::size_t first = 0) {
  std::vector<Backend> list;
  for (std::size_t i = first; i < first + count; ++i) {
    list.push_back({IpAddress::from_v4({10, 0, static_cast<std::uint8_t>(i >> 8), static_cast<std::uint8_t>(i)}), 80});
  }
  return list;
}

std::vector<std::size_t> shares(const std::vector<std::uint32_t>& order, std::size_t count) {
  std::vector<std::size_t> out(count);
  for (const std::uint32_t position : order) ++out[position];
  return out;
}

TEST(Arrangement, InTurnWithoutWeights) {
  for (const auto balancing : {Balancing::kRandom, Balancing::kRoundRobin, Balancing::kLeastConnections}) {
    EXPECT_THAT(arrange(balancing, backends(3), {}), ElementsAre(0, 1, 2));
  }
  for (const auto& [name, balancing] : kBalancingNames) EXPECT_TRUE(arrange(balancing, {}, {}).empty()) << name;
}

TEST(Arrangement, WeightsAreSpreadEvenlyAndReduced) {
  EXPECT_THAT(arrange(Balancing::kRoundRobin, backends(2), std::vector<std::uint32_t>{1, 3}), ElementsAre(1, 0, 1, 1));
  EXPECT_THAT(arrange(Balancing::kRoundRobin, backends(2), std::vector<std::uint32_t>{20, 60}),
              ElementsAre(1, 0, 1, 1));
  EXPECT_THAT(arrange(Balancing::kLeastConnections, backends(2), std::vector<std::uint32_t>{1, 3}), ElementsAre(0, 1))
      << "it weighs by itself";
}

// The table as the paper says it, without cleverness: permutations written out, a list of who chose what.
std::vector<std::uint32_t> plain_maglev(const std::vector<std::vector<std::uint32_t>>& permutations) {
  const std::size_t size = permutations.front().size();
  std::map<std::uint32_t, std::uint32_t> owner;
  while (true) {
    for (std::uint32_t i = 0; i < permutations.size(); ++i) {
      const auto wanted =
          std::ranges::find_if(permutations[i], [&](std::uint32_t slot) { return !owner.contains(slot); });
      owner[*wanted] = i;
      if (owner.size() < size) continue;
      std::vector<std::uint32_t> table;
      for (const auto& [slot, backend] : owner) table.push_back(backend);
      return table;
    }
  }
}

// A backend alone owns every slot, so its permutation shows in tables with others: the plain fill of the permutations
// that the pair tables tell has to be the table.
TEST(Arrangement, MaglevIsThePapersTable) {
  // Two hashes a backend, written down once more from the documented rule: FNV-1a of address and port, finished by
  // MurmurHash3's 64-bit mixer.
  const auto hash = [](const Backend& backend, std::uint64_t seed) {
    std::vector<std::uint8_t> bytes(backend.address.bytes().begin(), backend.address.bytes().end());
    bytes.push_back(static_cast<std::uint8_t>(backend.port / 256));
    bytes.push_back(static_cast<std::uint8_t>(backend.port % 256));
    std::uint64_t value = 14695981039346656037ULL ^ seed;
    for (const std::uint8_t byte : bytes) value = (value ^ byte) * 1099511628211ULL;
    for (const std::uint64_t factor : {0xff51afd7ed558ccdULL, 0xc4ceb9fe1a85ec53ULL}) {
      value = (value ^ (value >> 33)) * factor;
    }
    return value ^ (value >> 33);
  };
  const struct {
    std::size_t count, size;
  } cases[] = {{1, 251}, {2, 251}, {7, 251}, {8, 1021}, {25, 1021}};
  for (const auto& [count, size] : cases) {
    const auto list = backends(count);
    std::vector<std::vector<std::uint32_t>> permutations;
    for (const Backend& backend : list) {
      const std::uint64_t offset = hash(backend, 1) % size;
      const std::uint64_t skip = hash(backend, 2) % (size - 1) + 1;
      auto& permutation = permutations.emplace_back();
      for (std::uint64_t j = 0; j < size; ++j) {
        permutation.push_back(static_cast<std::uint32_t>((offset + j * skip) % size));
      }
    }
    EXPECT_EQ(arrange(Balancing::kMaglev, list, {}), plain_maglev(permutations)) << count;
    EXPECT_EQ(arrange(Balancing::kSourceHash, list, {}), arrange(Balancing::kMaglev, list, {}));
  }
}

TEST(Arrangement, MaglevSharesAreEven) {
  for (const std::size_t count : {2U, 10U, 100U, 1000U, 3000U}) {
    const auto of = shares(arrange(Balancing::kMaglev, backends(count), {}), count);
    EXPECT_LE(std::ranges::max(of) - std::ranges::min(of), 1U) << count;
  }
}

TEST(Arrangement, MaglevSharesFollowWeights) {
  const std::vector<std::uint32_t> weights{1, 2, 5, 100};
  const auto of = shares(arrange(Balancing::kMaglev, backends(4), weights), 4);
  const double size = std::accumulate(of.begin(), of.end(), 0.0);
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_GE(of[i], 1U);
    EXPECT_NEAR(static_cast<double>(of[i]) / size, weights[i] / 108.0, 0.01) << i;
  }
}

// How much of the table leads elsewhere once one backend is gone or has come; a slot is a client's hash modulo the
// size.
TEST(Arrangement, MaglevMovesLittleMoreThanTheShareOfWhoComesOrGoes) {
  for (const std::size_t count : {10U, 100U, 500U}) {
    const auto all = backends(count);
    const auto table = arrange(Balancing::kMaglev, all, {});
    for (const std::size_t gone : {std::size_t{0}, count / 2, count - 1}) {
      auto rest = all;
      rest.erase(rest.begin() + static_cast<std::ptrdiff_t>(gone));
      const auto without = arrange(Balancing::kMaglev, rest, {});
      ASSERT_EQ(without.size(), table.size());
      std::size_t moved = 0;
      for (std::size_t slot = 0; slot < table.size(); ++slot) moved += all[table[slot]] != rest[without[slot]] ? 1 : 0;
      const double share = 1.0 / static_cast<double>(count);
      EXPECT_LT(static_cast<double>(moved) / static_cast<double>(table.size()), 2.5 * share + 0.02) << count;
    }
  }
}

TEST(Arrangement, MaglevKeepsItsSizeBetweenSteps) {
  for (const auto& [count, size] : std::map<std::size_t, std::size_t>{
           {7, 251}, {8, 1021}, {31, 1021}, {32, 4093}, {2047, 65'521}, {2048, 262'139}}) {
    EXPECT_EQ(arrange(Balancing::kMaglev, backends(count), {}).size(), size) << count;
  }
}

}  // namespace
}  // namespace fairlead::datapath
