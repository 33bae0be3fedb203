// SPDX-License-Identifier: Apache-2.0
// CountedMaps: policy maps that count what is written to them.
#pragma once

#include <cstddef>
#include <utility>
#include <vector>

#include "agent/datapath/policy_maps.h"

namespace fairlead::bench {

// Over `inner`, which lives longer. Same thread.
class CountedMaps final : public datapath::PolicyMaps {
 public:
  explicit CountedMaps(datapath::PolicyMaps& inner) : inner_(inner) {}
  // Entries that were written or erased since the last call.
  std::size_t take() { return std::exchange(entries_, 0); }

  Result<> set_identity(const IpAddress& address, datapath::Identity identity) override {
    ++entries_;
    return inner_.set_identity(address, identity);
  }
  Result<> erase_identity(const IpAddress& address) override {
    ++entries_;
    return inner_.erase_identity(address);
  }
  Result<> set_identity(const Cidr& cidr, datapath::Identity identity) override {
    ++entries_;
    return inner_.set_identity(cidr, identity);
  }
  Result<> erase_identity(const Cidr& cidr) override {
    ++entries_;
    return inner_.erase_identity(cidr);
  }
  Result<> put_rules(datapath::RuleSetId id, const std::vector<datapath::PortRange>& any_peer) override {
    ++entries_;
    return inner_.put_rules(id, any_peer);
  }
  Result<> allow(datapath::RuleSetId id, datapath::Identity peer,
                 const std::vector<datapath::PortRange>& ports) override {
    ++entries_;
    return inner_.allow(id, peer, ports);
  }
  std::size_t allow_first(datapath::RuleSetId id, const std::vector<datapath::PeerPorts>& peers) override {
    const std::size_t written = inner_.allow_first(id, peers);
    entries_ += written;
    return written;
  }
  Result<> forbid(datapath::RuleSetId id, datapath::Identity peer) override {
    ++entries_;
    return inner_.forbid(id, peer);
  }
  // One, whatever it has for peers.
  Result<> erase_rules(datapath::RuleSetId id) override {
    ++entries_;
    return inner_.erase_rules(id);
  }
  Result<datapath::PolicyContents> read() const override { return inner_.read(); }

 private:
  datapath::PolicyMaps& inner_;
  std::size_t entries_ = 0;
};

}  // namespace fairlead::bench
