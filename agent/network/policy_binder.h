// SPDX-License-Identifier: Apache-2.0
// PolicyBinder: which rules hold for each endpoint of this node.
#pragma once

#include <cstdint>
#include <map>

#include "agent/datapath/pod_programs.h"
#include "agent/network/pod_gate.h"

namespace fairlead::network {

// Owner: Network; thread: its loop's. Cost: a look at all endpoints for each that is put. An endpoint gets the rules of
// its pod's row, and a new generation for each direction whose rules are others, or whose open connections are to be
// judged again. Without a row it keeps what its record says: so a restart, and a pod whose row is gone before it, stay
// isolated; and a new record denies everything until the row comes. An attachment that no pod is named for is not
// isolated.
class PolicyBinder {
 public:
  // `changed`: the row is new or another, and the pod's endpoints are to be put again.
  PolicyBinder(Loop& loop, state::TableReader<model::PodPolicy> rows, datapath::PodPrograms& programs,
               Duration patience, PodGate<model::PodPolicy>::Changed changed)
      : programs_(programs),
        gate_(loop, std::move(rows), patience, "its policy is not in the maps", std::move(changed)) {}

  void start() { gate_.start(); }
  // As PodGate::pass.
  void pass(const Attachment& attachment, PodGate<model::PodPolicy>::Go go);
  // PodPrograms::upsert() with the rules of the attachment's pod.
  Result<> put(const Attachment& attachment, datapath::PodEndpoint endpoint);
  // PodPrograms::erase(), and what is remembered of the endpoint.
  Result<> erase(std::uint32_t ifindex);
  // Endpoints that are remembered.
  std::size_t size() const { return revisions_.size(); }

 private:
  Result<datapath::PolicyBinding> next(const datapath::PolicyBinding& before, std::uint32_t rules, bool again);

  datapath::PodPrograms& programs_;
  PodGate<model::PodPolicy> gate_;
  std::map<std::uint32_t, std::uint64_t> revisions_;  // of the row that an endpoint was put by, by ifindex
};

}  // namespace fairlead::network
