// SPDX-License-Identifier: Apache-2.0
// ipBlocks as a table of prefixes: in which lists of blocks is an address? Pure.
//
// A list is all ipBlocks of one rule, so that a rule of ten thousand of them is one peer. Prefixes that are excepted
// are in the table, too: the longest one that holds an address tells exactly which lists hold it.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "agent/base/ip.h"
#include "agent/model/rows.h"

namespace fairlead::policy {

using ListId = std::uint32_t;
using Lists = std::vector<ListId>;  // ascending

// A value. Cost: building it sorts all prefixes; find() is a map lookup for each length of prefix in use.
class BlockTable {
 public:
  BlockTable() = default;
  explicit BlockTable(const std::map<ListId, const std::vector<model::IpBlock>*>& lists);

  // The lists that hold `address`.
  const Lists& find(const IpAddress& address) const;
  // What an LPM trie needs: prefixes whose lists differ from those of what is around them.
  const std::map<Cidr, Lists>& entries() const { return entries_; }

 private:
  std::map<std::pair<unsigned, IpAddress>, Lists> all_;  // by length and base
  std::map<Cidr, Lists> entries_;
  std::array<std::vector<unsigned>, 2> lengths_;  // in use, the longest first; of IPv4, of IPv6
};

}  // namespace fairlead::policy
