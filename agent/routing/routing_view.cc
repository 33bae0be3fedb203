// SPDX-License-Identifier: Apache-2.0
// Routing: what it tells, in the log, in metrics and on request.
#include <algorithm>

#include "agent/base/log.h"
#include "agent/routing/routing.h"

namespace fairlead::routing {
namespace {

constexpr const char* kModule = "routing";

Json texts(const auto& values) {
  Json all = Json::array();
  for (const auto& value : values) all.push_back(value.str());
  return all;
}

}  // namespace

void Routing::log_changes(const Plan& before) const {
  for (const auto& [object, why] : plan_.failing) {
    if (!before.failing.contains(object)) log::warn(kModule, "not in force", {{"object", object}, {"reason", why}});
  }
  for (const auto& [object, why] : before.failing) {
    if (plan_.failing.contains(object)) continue;
    log::info(kModule, "in force, or asked for no more", {{"object", object}, {"was", why}});
  }
  for (const auto& [name, node] : plan_.nodes) {
    const auto old = before.nodes.find(name);
    const std::string was = old == before.nodes.end() ? std::string() : old->second.condition;
    if (node.condition == was) continue;
    if (node.condition.empty()) {
      log::info(kModule, "a node's pods are all reached again", {{"node", name}, {"was", was}});
    } else {
      log::warn(kModule, "a node's pods are not all reached", {{"node", name}, {"reason", node.condition}});
    }
  }
}

void Routing::count() {
  std::size_t in_force = 0;
  for (const auto& [destination, route] : plan_.routes) {
    const auto at = actual_.routes.find(destination);
    in_force += at != actual_.routes.end() && at->second == route ? 1 : 0;
  }
  routes_wanted_.Set(static_cast<double>(plan_.routes.size()));
  routes_in_force_.Set(static_cast<double>(in_force));
  for (const Way way : {Way::kNative, Way::kTunnel, Way::kNone}) {
    const auto nodes = std::ranges::count(plan_.nodes, way, [](const auto& entry) { return entry.second.way; });
    metrics::gauge(deps_.registry, "fairlead_nodes", "Other nodes of the cluster, by how their pods are reached.",
                   {{"way", std::string(to_string(way))}})
        .Set(static_cast<double>(nodes));
  }
}

Json Routing::status() const {
  Json missing = Json::array();
  if (!complete_) missing.push_back("Node");
  Json failing = plan_.failing;
  if (blind_) failing["kernel"] = blind_->message();
  for (const auto& [key, error] : reconciler_.failing()) failing[key] = error.message();
  std::string uplinks;
  for (const auto& [ifindex, name] : plan_.uplinks) uplinks += (uplinks.empty() ? "" : ",") + name;
  Json conditions = Json::object();
  for (const auto& [name, node] : plan_.nodes) {
    if (!node.condition.empty()) conditions[name] = node.condition;
  }
  const bool whole = !plan_.device || plan_.tunnel;
  return {{"synced", complete_ && reconciler_.synced() && failing.empty() && whole},
          {"missing", missing},
          {"failing", failing},
          {"nodes", plan_.nodes.size()},
          {"routes", plan_.routes.size()},
          {"routes_in_force", routes_in_force_.Value()},
          {"uplinks", uplinks},
          {"tunnel", plan_.device ? kTunnelDevice : "none"},
          {"mtu", pod_mtu(deps_.settings, facts_)},
          {"conditions", conditions}};
}

Json Routing::list_nodes() const {
  Json rows = Json::array();
  for (const auto& [name, node] : plan_.nodes) {
    rows.push_back({{"name", name},
                    {"addresses", texts(node.addresses)},
                    {"pod_cidrs", texts(node.pod_cidrs)},
                    {"way", to_string(node.way)},
                    {"condition", node.condition}});
  }
  return rows;
}

}  // namespace fairlead::routing
