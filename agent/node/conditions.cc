// SPDX-License-Identifier: Apache-2.0
#include "agent/node/conditions.h"

#include <algorithm>

#include "agent/base/timestamp.h"
#include "agent/kube/codec/time.h"

namespace fairlead::node {
namespace {

Condition pressure(const char* type, bool is, const char* short_reason, const char* enough_reason, const char* what) {
  return {type, is ? "True" : "False", is ? short_reason : enough_reason,
          fmt::format("fairlead-agent has {} {} available", is ? "insufficient" : "sufficient", what), WallTime()};
}

// The epoch where it is no time.
WallTime parse_time(const std::string& text) {
  const auto time = kube::parse_time(text);
  return time ? WallTime(std::chrono::seconds(time->seconds)) : WallTime();
}

}  // namespace

std::vector<Condition> conditions_of(const Health& health, const Pressures& pressures,
                                     const std::vector<Condition>& before, WallTime now) {
  std::vector<Condition> conditions{
      pressure("MemoryPressure", pressures.memory, "KubeletHasInsufficientMemory", "KubeletHasSufficientMemory",
               "memory"),
      {"DiskPressure", pressures.disk ? "True" : "False",
       pressures.disk ? "KubeletHasDiskPressure" : "KubeletHasNoDiskPressure",
       fmt::format("fairlead-agent has {}disk pressure", pressures.disk ? "" : "no "), WallTime()},
      pressure("PIDPressure", pressures.pids, "KubeletHasInsufficientPID", "KubeletHasSufficientPID", "PID"),
      {"Ready", health.ready ? "True" : "False", health.reason, health.message, WallTime()}};
  for (Condition& condition : conditions) {
    const auto old = std::ranges::find(before, condition.type, &Condition::type);
    condition.since = old != before.end() && old->status == condition.status ? old->since : now;
  }
  return conditions;
}

std::vector<Condition> read_conditions(const Json& node) {
  std::vector<Condition> conditions;
  for (const Json& each : node.value(Json::json_pointer("/status/conditions"), Json::array())) {
    conditions.push_back({each.value("type", ""), each.value("status", ""), each.value("reason", ""),
                          each.value("message", ""), parse_time(each.value("lastTransitionTime", ""))});
  }
  return conditions;
}

Json to_json(const Condition& condition, WallTime heartbeat) {
  return {{"type", condition.type},
          {"status", condition.status},
          {"reason", condition.reason},
          {"message", condition.message},
          {"lastHeartbeatTime", format_time(to_timestamp(heartbeat))},
          {"lastTransitionTime", format_time(to_timestamp(condition.since))}};
}

}  // namespace fairlead::node
