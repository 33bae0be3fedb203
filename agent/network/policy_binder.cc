// SPDX-License-Identifier: Apache-2.0
#include "agent/network/policy_binder.h"

#include <algorithm>

namespace fairlead::network {
namespace {

// No rule set, which denies everything.
constexpr datapath::RuleSetId kNothing = ~0U;

bool is_named(const Attachment& attachment) {
  return !attachment.pod_uid.empty() || !attachment.pod_name.empty();
}

}  // namespace

void PolicyBinder::pass(const Attachment& attachment, PodGate<model::PodPolicy>::Go go) {
  if (!is_named(attachment)) return go({});
  gate_.pass(attachment, std::move(go));
}

Result<datapath::PolicyBinding> PolicyBinder::next(const datapath::PolicyBinding& before, std::uint32_t rules,
                                                   bool again) {
  if (rules == before.rules && (rules == 0 || !again)) return before;
  FL_LET(const std::uint32_t generation, programs_.new_generation());
  return datapath::PolicyBinding{rules, generation};
}

Result<> PolicyBinder::put(const Attachment& attachment, datapath::PodEndpoint endpoint) {
  const std::vector<datapath::PodEndpoint> all = programs_.endpoints();
  const auto there = std::ranges::find(all, endpoint.ifindex, &datapath::PodEndpoint::ifindex);
  if (there != all.end()) {
    endpoint.ingress = there->ingress;
    endpoint.egress = there->egress;
  } else {
    revisions_.erase(endpoint.ifindex);
  }
  const model::PodPolicy* row = gate_.find(attachment);
  if (row == nullptr) {
    if (there == all.end() && is_named(attachment)) endpoint.ingress.rules = endpoint.egress.rules = kNothing;
    return programs_.upsert(endpoint);
  }
  const auto known = revisions_.find(endpoint.ifindex);
  const bool again = known == revisions_.end() || known->second != row->revision;
  FL_LET(endpoint.ingress, next(endpoint.ingress, row->ingress_rules, again));
  FL_LET(endpoint.egress, next(endpoint.egress, row->egress_rules, again));
  FL_TRY(programs_.upsert(endpoint));
  revisions_[endpoint.ifindex] = row->revision;
  return {};
}

Result<> PolicyBinder::erase(std::uint32_t ifindex) {
  FL_TRY(programs_.erase(ifindex));
  revisions_.erase(ifindex);
  return {};
}

}  // namespace fairlead::network
