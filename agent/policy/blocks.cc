// SPDX-License-Identifier: Apache-2.0
#include "agent/policy/blocks.h"

#include <algorithm>
#include <set>

namespace fairlead::policy {
namespace {

constexpr std::size_t kFamilies = 2;

std::size_t index_of(Family family) {
  return family == Family::kV4 ? 0 : 1;
}

bool holds(const Cidr& outer, const Cidr& inner) {
  return outer.family() == inner.family() && outer.prefix() <= inner.prefix() && outer.contains(inner.base());
}

// `address` less the bits beyond `length`.
IpAddress prefix_of(const IpAddress& address, unsigned length) {
  std::array<std::uint8_t, 16> bytes{};
  std::ranges::copy(address.bytes(), bytes.begin());
  for (unsigned bit = length; bit < address.bits(); ++bit) {
    bytes[bit / 8] = static_cast<std::uint8_t>(bytes[bit / 8] & ~(0x80U >> bit % 8));
  }
  return address.is_v4() ? IpAddress::from_v4({bytes[0], bytes[1], bytes[2], bytes[3]}) : IpAddress::from_v6(bytes);
}

// A block on its way: where it begins, and where it has holes.
struct Edges {
  std::vector<std::size_t> begin;
  std::vector<std::size_t> hole;
};

}  // namespace

BlockTable::BlockTable(const std::map<ListId, const std::vector<model::IpBlock>*>& lists) {
  std::vector<ListId> list_of;  // of each block
  std::map<Cidr, Edges> edges;  // a prefix comes after all that hold it
  for (const auto& [id, blocks] : lists) {
    for (const model::IpBlock& block : *blocks) {
      if (std::ranges::any_of(block.except, [&](const Cidr& hole) { return holds(hole, block.cidr); })) continue;
      edges[block.cidr].begin.push_back(list_of.size());
      for (const Cidr& hole : block.except) edges[hole].hole.push_back(list_of.size());
      list_of.push_back(id);
    }
  }
  struct Around {
    Cidr cidr;
    std::vector<std::size_t> blocks;  // that hold it, ascending
    const Lists* entry;               // of the trie, around here
  };
  static const Lists kNone;
  std::vector<Around> around;
  std::array<std::set<unsigned>, kFamilies> lengths;
  for (const auto& [cidr, here] : edges) {
    while (!around.empty() && !holds(around.back().cidr, cidr)) around.pop_back();
    Around now{cidr, around.empty() ? std::vector<std::size_t>() : around.back().blocks,
               around.empty() ? &kNone : around.back().entry};
    std::erase_if(now.blocks, [&](std::size_t block) { return std::ranges::binary_search(here.hole, block); });
    now.blocks.insert(now.blocks.end(), here.begin.begin(), here.begin.end());
    std::ranges::sort(now.blocks);
    Lists names;
    for (const std::size_t block : now.blocks) {
      if (names.empty() || names.back() != list_of[block]) names.push_back(list_of[block]);
    }
    if (names != *now.entry) now.entry = &(entries_[cidr] = names);
    all_.emplace(std::pair(cidr.prefix(), cidr.base()), std::move(names));
    lengths[index_of(cidr.family())].insert(cidr.prefix());
    around.push_back(std::move(now));
  }
  for (std::size_t family = 0; family < kFamilies; ++family) {
    lengths_[family].assign(lengths[family].rbegin(), lengths[family].rend());
  }
}

const Lists& BlockTable::find(const IpAddress& address) const {
  static const Lists kNone;
  for (const unsigned length : lengths_[index_of(address.family())]) {
    if (const auto at = all_.find({length, prefix_of(address, length)}); at != all_.end()) return at->second;
  }
  return kNone;
}

}  // namespace fairlead::policy
