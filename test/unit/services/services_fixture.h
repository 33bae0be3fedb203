// SPDX-License-Identifier: Apache-2.0
// The services domain over maps in memory.
#pragma once

#include <gtest/gtest.h>
#include <prometheus/text_serializer.h>

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "agent/services/services.h"
#include "agent/state/table.h"
#include "test/unit/services/rows.h"

namespace fairlead::services {

// The maps, as the domain's edge sees them.
class FakeBalancer final : public datapath::LoadBalancer {
 public:
  Result<> apply(const std::string& name, const datapath::ServiceEntry& entry) override {
    calls.push_back("apply " + name);
    if (on_apply) std::exchange(on_apply, nullptr)();
    if (full.contains(name)) return fail(Code::kExhausted, "map is full");
    entries[name] = entry;
    return {};
  }
  Result<> remove(const std::string& name) override {
    calls.push_back("remove " + name);
    if (full.contains(name)) return fail(Code::kDenied, "map is frozen");
    entries.erase(name);
    return {};
  }
  Result<> remove_unclaimed() override {
    calls.emplace_back("remove_unclaimed");
    return {};
  }
  std::vector<datapath::MapUsage> usage() const override { return {{"services", entries.size(), 100}}; }
  datapath::ServiceUse use(const std::string& name) const override {
    const auto at = uses.find(name);
    return at == uses.end() ? datapath::ServiceUse{} : at->second;
  }
  Result<std::set<std::string>> audit() override { return std::exchange(differing, {}); }

  // Active backends' addresses, or "-" where there is no such entry.
  std::string backends(const std::string& name) const {
    const auto at = entries.find(name);
    if (at == entries.end()) return "-";
    std::string text;
    for (const auto& backend : at->second.backends) text += (text.empty() ? "" : " ") + backend.address.str();
    return text;
  }

  std::map<std::string, datapath::ServiceEntry> entries;
  std::map<std::string, datapath::ServiceUse> uses;
  std::vector<std::string> calls;
  std::set<std::string> full;  // names that fail
  std::set<std::string> differing;
  std::function<void()> on_apply;  // run once, inside the next apply()
};

struct ServicesTest : testing::Test {
  Loop loop;
  ManualClock clock;
  FakeBalancer balancer;
  metrics::Registry registry;
  state::Table<model::Service> service_table{{"api"}};
  state::Table<model::EndpointSlice> slice_table{{"api"}};
  state::Table<model::LocalPod> pod_table{{"pods"}};
  state::Table<model::Node> node_table{{"api"}};
  state::Table<model::HostPort> host_port_table{{"network"}};
  TableWriter<model::Service> services = service_table.writer("api");
  TableWriter<model::EndpointSlice> slices = slice_table.writer("api");
  TableWriter<model::LocalPod> pods = pod_table.writer("pods");
  TableWriter<model::Node> nodes = node_table.writer("api");
  TableWriter<model::HostPort> host_ports = host_port_table.writer("network");
  std::pair<Sender<model::Applied>, Receiver<model::Applied>> applied = make_channel<model::Applied>();
  std::pair<Caller<Inspect, Json>, Responder<Inspect, Json>> inspect = make_request<Inspect, Json>();
  std::optional<ClusterIpAllocator> addresses;
  Duration audit_period{};
  Duration pods_patience = std::chrono::hours(1);
  std::optional<Services> domain;

  void make() {
    domain.emplace(loop, clock,
                   Services::Deps{.services = service_table.reader(),
                                  .slices = slice_table.reader(),
                                  .pods = pod_table.reader(),
                                  .nodes = node_table.reader(),
                                  .host_ports = host_port_table.reader(),
                                  .balancer = balancer,
                                  .applied = applied.first,
                                  .registry = registry,
                                  .inspect = std::move(inspect.second),
                                  .node = "node-1",
                                  .node_ips = {ip("192.0.2.1"), ip("2001:db8::1")},
                                  .addresses = std::move(addresses),
                                  .audit_period = audit_period,
                                  .pods_patience = pods_patience});
  }
  // "default/NAME" at 10.96.0.LAST with one endpoint per address, whose target uids are "u-ADDRESS".
  void declare(const std::string& name, int last, const std::vector<std::string>& endpoints) {
    services.upsert("default/" + name, service(name, {"10.96.0." + std::to_string(last)}));
    list(name, endpoints);
  }
  void list(const std::string& name, const std::vector<std::string>& addresses_of_endpoints) {
    std::vector<model::Endpoint> endpoints;
    for (const auto& address : addresses_of_endpoints) endpoints.push_back(endpoint(address, "u-" + address));
    slices.upsert("default/" + name + "-1", slice(name, name + "-1", endpoints));
  }
  void complete() {
    services.set_complete();
    slices.set_complete();
    pods.set_complete();
    nodes.set_complete();
    host_ports.set_complete();
  }
  void start() {
    make();
    complete();
    loop.poll();
    balancer.calls.clear();
    applied.second.take();
  }
  model::LocalPod local(const std::string& address) { return pod("u-" + address, "web", {address}); }
  // What was said last on `applied` since the last look.
  std::optional<model::Applied> heard() {
    auto items = applied.second.take();
    if (items.empty()) return std::nullopt;
    return items.back();
  }
  Result<Json> ask(const std::string& op, const Json& args = Json::object()) {
    std::optional<Result<Json>> answer;
    inspect.first.call(loop, Inspect{op, args}, std::chrono::minutes(1),
                       [&](Result<Json> result) { answer = std::move(result); });
    loop.poll();
    return answer ? *answer : fail(Code::kTimeout, "unanswered");
  }
  std::string metrics_text() { return prometheus::TextSerializer().Serialize(registry.Collect()); }
};

inline constexpr auto kWeb = "default/web:80/TCP/4";
inline constexpr auto kDb = "default/db:80/TCP/4";

}  // namespace fairlead::services
