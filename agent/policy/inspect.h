// SPDX-License-Identifier: Apache-2.0
// What the policy domain tells about itself. Pure, but for reading the maps.
#pragma once

#include <map>
#include <string>

#include "agent/base/local_protocol.h"
#include "agent/base/result.h"
#include "agent/datapath/policy_maps.h"
#include "agent/model/rows.h"
#include "agent/policy/desired.h"

namespace fairlead::policy {

struct View {
  const Desired& desired;
  const datapath::PolicyMaps& maps;
  const std::map<std::string, model::PodPolicy>& told;  // rules in force, by uid
  std::map<std::string, Error> failing;
};

// Answers (op, args → result):
//   policy.get    {namespace, name} of a pod of this node →
//                 {namespace, name, uid, addresses, identities, revision, in_force,
//                  ingress, egress: {isolated, rule_set, policies: [key],
//                                    rules: [{policy, rule, peers: [text], ports: [text]}]}}
//   policy.trace  {from, to: "namespace/pod" or IP, port: "80/TCP"} →
//                 {allowed, family, from, to, port, egress, ingress: {judged, isolated, rule_set, identity, allowed,
//                  by: ["namespace/policy ingress[0]"], why}}
// A side is judged on its pod's own node: elsewhere `judged` is false. `allowed` is what the maps say; `by` names the
// rules of policies that say so.
Result<Json> answer(const Inspect& request, const View& view);

}  // namespace fairlead::policy
