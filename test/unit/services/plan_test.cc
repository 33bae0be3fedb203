// SPDX-License-Identifier: Apache-2.0
#include "agent/services/plan.h"

#include <gtest/gtest.h>

#include "test/unit/services/rows.h"

namespace fairlead::services {
namespace {

using datapath::Backend;
using datapath::ServiceEntry;

const Site kSite{.node = "node-1", .zone = "zone-a"};
constexpr auto kName = "default/web:80/TCP/4";

// "10.0.0.1:8080 10.0.0.2:8080" of the active backends of `name`.
std::string backends(const ServicePlan& plan, const std::string& name = kName) {
  std::string text;
  for (const Backend& backend : plan.entries.at(name).backends) {
    text += fmt::format("{}{}:{}", text.empty() ? "" : " ", backend.address, backend.port);
  }
  return text;
}

TEST(ServicePlan, AnEntryHasFrontendsBackendsAndAffinity) {
  model::Service web = service("web");
  web.affinity_timeout_s = 60;
  const auto plan = compute_service_plan(
      web, {shared(slice("web", "b", {endpoint("10.0.0.2")})), shared(slice("web", "a", {endpoint("10.0.0.1")}))}, {},
      kSite);
  const ServiceEntry want{
      {{ip("10.96.0.10"), 80, Protocol::kTcp}}, {{ip("10.0.0.1"), 8080}, {ip("10.0.0.2"), 8080}}, 60};
  EXPECT_EQ(plan.entries, (std::map<std::string, ServiceEntry>{{kName, want}}));
}

// kube-proxy's preference: ready, else serving while terminating, else none.
TEST(ServicePlan, PrefersReadyThenServingAndTerminating) {
  struct Case {
    const char* what;
    std::vector<model::Endpoint> endpoints;
    const char* want;
  };
  const auto ready = endpoint("10.0.0.1");
  const auto draining = endpoint("10.0.0.2", "", false, true, true);
  const auto not_ready = endpoint("10.0.0.3", "", false, false);
  const auto dying = endpoint("10.0.0.4", "", false, false, true);
  const auto serving_only = endpoint("10.0.0.5", "", false, true);
  const Case cases[] = {
      {"ready only", {ready}, "10.0.0.1:8080"},
      {"ready beside draining", {draining, ready}, "10.0.0.1:8080"},
      {"draining only", {draining, not_ready, dying}, "10.0.0.2:8080"},
      {"none fit", {not_ready, dying}, ""},
      {"serving but neither ready nor terminating", {serving_only}, ""},
      {"none at all", {}, ""},
  };
  for (const Case& each : cases) {
    EXPECT_EQ(backends(compute_service_plan(service("web"), {shared(slice("web", "a", each.endpoints))}, {}, kSite)),
              each.want)
        << each.what;
  }
}

TEST(ServicePlan, TheBestOfDuplicatesCountsWhateverTheOrder) {
  const auto good = shared(slice("web", "a", {endpoint("10.0.0.1")}));
  const auto stale = shared(slice("web", "b", {endpoint("10.0.0.1", "", false, true, true), endpoint("10.0.0.2")}));
  const auto plan = compute_service_plan(service("web"), {good, stale}, {}, kSite);
  EXPECT_EQ(backends(plan), "10.0.0.1:8080 10.0.0.2:8080");
  EXPECT_EQ(plan, compute_service_plan(service("web"), {stale, good}, {}, kSite));
}

TEST(ServicePlan, EachFamilyTakesItsOwnSlices) {
  const auto plan = compute_service_plan(
      service("web", {"fd00::10", "10.96.0.10"}),
      {shared(slice("web", "a", {endpoint("10.0.0.1")})), shared(slice("web", "b", {endpoint("fd01::1")}, Family::kV6)),
       shared(slice("web", "wrong", {endpoint("10.0.0.9")}, Family::kV6))},
      {}, kSite);
  EXPECT_EQ(backends(plan), "10.0.0.1:8080");
  EXPECT_EQ(backends(plan, "default/web:80/TCP/6"), "fd01::1:8080");
  EXPECT_EQ(plan.entries.at("default/web:80/TCP/6").frontends[0].address, ip("fd00::10"));
}

TEST(ServicePlan, PortsAreMatchedByNameAndProtocol) {
  model::Service dns = service("dns");
  dns.ports = {{"udp", 53, Protocol::kUdp, std::uint16_t{53}, 0},
               {"tcp", 53, Protocol::kTcp, std::uint16_t{53}, 0},
               {"metrics", 9153, Protocol::kTcp, std::string("metrics"), 0}};
  model::EndpointSlice both = slice("dns", "a", {endpoint("10.0.0.1")});
  both.ports = {{"tcp", 1053, Protocol::kTcp}, {"udp", 1053, Protocol::kUdp}, {"metrics", 0, Protocol::kTcp}};
  model::EndpointSlice mislabelled = slice("dns", "b", {endpoint("10.0.0.2")});
  mislabelled.ports = {{"tcp", 2053, Protocol::kUdp}};
  const auto plan = compute_service_plan(dns, {shared(both), shared(mislabelled)}, {}, kSite);
  EXPECT_EQ(plan.entries.size(), 3U);
  EXPECT_EQ(backends(plan, "default/dns:53/UDP/4"), "10.0.0.1:1053");
  EXPECT_EQ(backends(plan, "default/dns:53/TCP/4"), "10.0.0.1:1053");
  EXPECT_EQ(backends(plan, "default/dns:9153/TCP/4"), "");
}

TEST(ServicePlan, WhatIsNotServedOrUnaddressedGivesNothing) {
  model::Service headless = service("web", {});
  headless.headless = true;
  model::Service external = service("web");
  external.type = model::ServiceType::kExternalName;
  model::Service others = service("web");
  others.other_proxy = true;
  for (const auto& each : {headless, external, others, service("web", {})}) {
    EXPECT_EQ(compute_service_plan(each, {shared(slice("web", "a", {endpoint("10.0.0.1")}))}, {}, kSite),
              ServicePlan());
  }
}

// Socket hooks never see SCTP; packet programs find its entries.
TEST(ServicePlan, SctpPortsHaveEntries) {
  model::Service web = service("web");
  web.ports.push_back({"sctp", 80, Protocol::kSctp, std::uint16_t{8080}, 0});
  model::EndpointSlice sctp = slice("web", "a", {endpoint("10.0.0.1")});
  sctp.ports = {{"sctp", 9090, Protocol::kSctp}};
  const auto plan = compute_service_plan(web, {shared(sctp)}, {}, kSite);
  EXPECT_EQ(plan.entries.size(), 2U);
  EXPECT_EQ(backends(plan, "default/web:80/SCTP/4"), "10.0.0.1:9090");
  EXPECT_EQ(plan.entries.at("default/web:80/SCTP/4").frontends[0].protocol, Protocol::kSctp);
}

// What the slice says of pod "p" × what its own node knows → whether its endpoint is ready, draining, or no more.
TEST(ServicePlan, LocalTruthIsJoinedByUid) {
  enum class Listed { kReady, kNotReady, kTerminating };
  struct Case {
    const char* what;
    Listed listed;
    bool ready, serving, terminating, terminal;
    const char* want;
  };
  const Case cases[] = {
      {"both ready", Listed::kReady, true, true, false, false, "ready"},
      {"locally not ready wins", Listed::kReady, false, false, false, false, "none"},
      {"locally terminating wins", Listed::kReady, true, true, true, false, "draining"},
      {"locally terminating and failing its probe", Listed::kReady, false, false, true, false, "none"},
      {"locally dead wins", Listed::kReady, false, false, false, true, "none"},
      {"locally ready raises", Listed::kNotReady, true, true, false, false, "ready"},
      {"listed as terminating stays so", Listed::kTerminating, true, true, false, false, "draining"},
      {"listed as terminating, locally not serving", Listed::kTerminating, false, false, true, false, "none"},
  };
  const auto conditions = [](Listed listed) {
    switch (listed) {
      case Listed::kReady:
        return endpoint("10.0.0.1", "p");
      case Listed::kNotReady:
        return endpoint("10.0.0.1", "p", false, false);
      case Listed::kTerminating:
        break;
    }
    return endpoint("10.0.0.1", "p", false, true, true);
  };
  for (const Case& each : cases) {
    model::LocalPod known = pod("p", "web", {"10.0.0.1"});
    known.ready = each.ready;
    known.serving = each.serving;
    known.terminating = each.terminating;
    known.terminal = each.terminal;
    const EndpointSlices slices{shared(slice("web", "a", {conditions(each.listed)}))};
    const LocalPods local{{"p", shared(known)}};
    EXPECT_EQ(backends(compute_service_plan(service("web"), slices, local, kSite)),
              std::string(each.want) == "none" ? "" : "10.0.0.1:8080")
        << each.what;
    // Beside a ready endpoint elsewhere, only a ready one is used.
    EndpointSlices beside = slices;
    beside.push_back(shared(slice("web", "b", {endpoint("10.1.0.1", "other")})));
    EXPECT_EQ(backends(compute_service_plan(service("web"), beside, local, kSite)),
              std::string(each.want) == "ready" ? "10.0.0.1:8080 10.1.0.1:8080" : "10.1.0.1:8080")
        << each.what;
  }
}

TEST(ServicePlan, LocalNewsNeverAddsAnEndpoint) {
  const LocalPods local{{"p", shared(pod("p", "web", {"10.0.0.1"}))}, {"", shared(pod("", "web", {"10.0.0.2"}))}};
  EXPECT_EQ(backends(compute_service_plan(service("web"), {}, local, kSite)), "");
  model::LocalPod nameless = pod("", "web", {"10.0.0.2"});
  nameless.terminal = true;
  EXPECT_EQ(backends(compute_service_plan(service("web"), {shared(slice("web", "a", {endpoint("10.0.0.2")}))},
                                          {{"", shared(nameless)}}, kSite)),
            "10.0.0.2:8080");
}

TEST(ServicePlan, PublishNotReadyKeepsAllButTheDead) {
  model::Service web = service("web");
  web.publish_not_ready = true;
  model::LocalPod unready = pod("a", "web", {"10.0.0.1"});
  unready.ready = unready.serving = false;
  model::LocalPod leaving = pod("b", "web", {"10.0.0.2"});
  leaving.terminating = true;
  model::LocalPod dead = pod("c", "web", {"10.0.0.3"});
  dead.terminal = true;
  const auto plan = compute_service_plan(
      web,
      {shared(slice("web", "a", {endpoint("10.0.0.1", "a"), endpoint("10.0.0.2", "b"), endpoint("10.0.0.3", "c")}))},
      {{"a", shared(unready)}, {"b", shared(leaving)}, {"c", shared(dead)}}, kSite);
  EXPECT_EQ(backends(plan), "10.0.0.1:8080 10.0.0.2:8080");
}

// An endpoint of the tables below: READY@NODE/ZONE with hints for zones and nodes.
struct At {
  const char* address;
  enum { kReady, kDraining, kNotReady } condition;
  const char* node;
  std::vector<std::string> zone_hints = {};
  std::vector<std::string> node_hints = {};
};

std::string chosen(const model::Service& service, const std::vector<At>& endpoints, const Site& site = kSite) {
  std::vector<model::Endpoint> list;
  for (const At& at : endpoints) {
    auto row = endpoint(at.address, "", at.condition == At::kReady, at.condition != At::kNotReady,
                        at.condition == At::kDraining);
    row.node = at.node;
    row.zone_hints = at.zone_hints;
    row.node_hints = at.node_hints;
    list.push_back(row);
  }
  const auto plan = compute_service_plan(service, {shared(slice("web", "a", list))}, {}, site);
  std::string text;
  for (const Backend& backend : plan.entries.at(kName).backends)
    text += (text.empty() ? "" : " ") + backend.address.str();
  return text;
}

TEST(ServicePlan, InternalTrafficPolicyLocalUsesThisNodesEndpointsOnly) {
  const struct {
    const char* what;
    std::vector<At> endpoints;
    const char* want;
  } cases[] = {
      {"ready here", {{"10.0.0.1", At::kReady, "node-1"}, {"10.0.0.2", At::kReady, "node-2"}}, "10.0.0.1"},
      {"none here", {{"10.0.0.2", At::kReady, "node-2"}}, ""},
      {"draining here beside ready elsewhere",
       {{"10.0.0.1", At::kDraining, "node-1"}, {"10.0.0.2", At::kReady, "node-2"}},
       "10.0.0.1"},
      {"draining beside ready here",
       {{"10.0.0.1", At::kDraining, "node-1"}, {"10.0.0.3", At::kReady, "node-1"}},
       "10.0.0.3"},
      {"not ready here", {{"10.0.0.1", At::kNotReady, "node-1"}, {"10.0.0.2", At::kReady, "node-2"}}, ""},
      {"hints do not matter", {{"10.0.0.1", At::kReady, "node-1", {"zone-b"}, {"node-2"}}}, "10.0.0.1"},
      {"no node named", {{"10.0.0.1", At::kReady, ""}}, ""},
  };
  model::Service web = service("web");
  web.internal_local = true;
  for (const auto& each : cases) EXPECT_EQ(chosen(web, each.endpoints), each.want) << each.what;
}

// kube-proxy's rules for hints (its topology.go), case by case.
TEST(ServicePlan, HintsAreFollowedOrIgnoredAsAWhole) {
  const struct {
    const char* what;
    std::vector<At> endpoints;
    const char* want;
  } cases[] = {
      {"zone hints",
       {{"10.0.0.1", At::kReady, "n", {"zone-a"}}, {"10.0.0.2", At::kReady, "n", {"zone-b"}}},
       "10.0.0.1"},
      {"several zones in a hint",
       {{"10.0.0.1", At::kReady, "n", {"zone-a", "zone-b"}}, {"10.0.0.2", At::kReady, "n", {"zone-b"}}},
       "10.0.0.1"},
      {"one ready endpoint without a hint",
       {{"10.0.0.1", At::kReady, "n", {"zone-a"}}, {"10.0.0.2", At::kReady, "n"}},
       "10.0.0.1 10.0.0.2"},
      {"no hint for this zone", {{"10.0.0.2", At::kReady, "n", {"zone-b"}}}, "10.0.0.2"},
      {"a not ready one without hints does not count",
       {{"10.0.0.1", At::kReady, "n", {"zone-a"}}, {"10.0.0.2", At::kNotReady, "n"}},
       "10.0.0.1"},
      {"the only one for this zone is not ready",
       {{"10.0.0.1", At::kNotReady, "n", {"zone-a"}}, {"10.0.0.2", At::kReady, "n", {"zone-b"}}},
       "10.0.0.2"},
      {"node hints before zone hints",
       {{"10.0.0.1", At::kReady, "node-1", {"zone-a"}, {"node-1"}},
        {"10.0.0.2", At::kReady, "node-2", {"zone-a"}, {"node-2"}}},
       "10.0.0.1"},
      {"no node hint for this node: its zone",
       {{"10.0.0.2", At::kReady, "node-2", {"zone-a"}, {"node-2"}},
        {"10.0.0.3", At::kReady, "node-3", {"zone-b"}, {"node-3"}}},
       "10.0.0.2"},
      {"node hints on some only",
       {{"10.0.0.1", At::kReady, "node-1", {"zone-a"}, {"node-1"}}, {"10.0.0.2", At::kReady, "node-2", {"zone-a"}}},
       "10.0.0.1 10.0.0.2"},
      {"none ready: whoever drains, anywhere",
       {{"10.0.0.1", At::kDraining, "n", {"zone-b"}}, {"10.0.0.2", At::kDraining, "n"}},
       "10.0.0.1 10.0.0.2"},
      {"ready elsewhere beats draining here",
       {{"10.0.0.1", At::kDraining, "n", {"zone-a"}}, {"10.0.0.2", At::kReady, "n", {"zone-b"}}},
       "10.0.0.2"},
  };
  for (const auto& each : cases) EXPECT_EQ(chosen(service("web"), each.endpoints), each.want) << each.what;
  EXPECT_EQ(
      chosen(service("web"), {{"10.0.0.1", At::kReady, "n", {"zone-a"}}, {"10.0.0.2", At::kReady, "n", {"zone-b"}}},
             {.node = "node-1", .zone = ""}),
      "10.0.0.1 10.0.0.2")
      << "a node without a zone";
}

// A pod that is ready here before its slice says so has no hints yet, and is as near as can be.
TEST(ServicePlan, WhatLocalTruthRaisesCountsAsHinted) {
  auto raised = endpoint("10.0.0.1", "p", false, false);
  auto far = endpoint("10.0.0.2");
  for (const auto hints : {&model::Endpoint::zone_hints, &model::Endpoint::node_hints}) {
    auto listed = far;
    listed.*hints = {"elsewhere"};
    const EndpointSlices slices{shared(slice("web", "a", {raised, listed}))};
    EXPECT_EQ(backends(compute_service_plan(service("web"), slices, {}, kSite)), "10.0.0.2:8080");
    EXPECT_EQ(
        backends(compute_service_plan(service("web"), slices, {{"p", shared(pod("p", "web", {"10.0.0.1"}))}}, kSite)),
        "10.0.0.1:8080");
  }
}

TEST(ServicePlan, ListedEndpointsThatAreNotActiveDrain) {
  auto near = endpoint("10.0.0.1");
  auto far = endpoint("10.0.0.2");
  near.zone_hints = {"zone-a"};
  far.zone_hints = {"zone-b"};
  const auto plan = compute_service_plan(
      service("web"),
      {shared(
          slice("web", "a", {near, far, endpoint("10.0.0.3", "", false, true, true), endpoint("10.0.0.4", "dead")}))},
      {{"dead",
        [] {
          auto dead = pod("dead", "web", {"10.0.0.4"});
          dead.terminal = true;
          return shared(dead);
        }()}},
      kSite);
  EXPECT_EQ(backends(plan), "10.0.0.1:8080");
  EXPECT_EQ(plan.entries.at(kName).draining, (std::vector<Backend>{{ip("10.0.0.2"), 8080}, {ip("10.0.0.3"), 8080}}));
}

TEST(ServicePlan, BalancingIsTheServicesOrTheNodes) {
  model::Service web = service("web");
  Site site = kSite;
  site.balancing = Balancing::kLeastConnections;
  EXPECT_EQ(compute_service_plan(web, {}, {}, site).entries.at(kName).balancing, Balancing::kLeastConnections);
  web.balancing = Balancing::kSourceHash;
  EXPECT_EQ(compute_service_plan(web, {}, {}, site).entries.at(kName).balancing, Balancing::kSourceHash);
}

TEST(ServicePlan, BackendsWeighWhatTheirZoneDoes) {
  const auto in = [](const char* address, const char* zone) {
    auto row = endpoint(address);
    row.zone = zone;
    return row;
  };
  const EndpointSlices slices{
      shared(slice("web", "a", {in("10.0.0.1", "zone-a"), in("10.0.0.2", "zone-b"), in("10.0.0.3", "")}))};
  using Weights = std::vector<std::uint32_t>;
  const struct {
    std::map<std::string, std::uint32_t> zones;
    const char* want;
    Weights weights;
  } cases[] = {
      {{}, "10.0.0.1:8080 10.0.0.2:8080 10.0.0.3:8080", {}},
      {{{"zone-a", 5}}, "10.0.0.1:8080 10.0.0.2:8080 10.0.0.3:8080", {5, 1, 1}},
      {{{"zone-a", 0}, {"zone-b", 2}}, "10.0.0.2:8080 10.0.0.3:8080", {2, 1}},
      {{{"zone-a", 0}, {"zone-b", 0}, {"", 0}}, "10.0.0.1:8080 10.0.0.2:8080 10.0.0.3:8080", {1, 1, 1}},
  };
  for (const auto& each : cases) {
    model::Service web = service("web");
    web.zone_weights = each.zones;
    const auto plan = compute_service_plan(web, slices, {}, kSite);
    EXPECT_EQ(backends(plan), each.want);
    EXPECT_EQ(plan.entries.at(kName).weights, each.weights) << each.want;
  }
}

TEST(Backends, TellWhatEachEndpointIsAndWhichAreActive) {
  const model::Service web = service("web");
  model::LocalPod leaving = pod("b", "web", {"10.0.0.2"});
  leaving.terminating = true;
  const auto list =
      compute_backends(web, web.ports[0], Family::kV4,
                       {shared(slice("web", "a", {endpoint("10.0.0.2", "b"), endpoint("10.0.0.1", "a")}))},
                       {{"b", shared(leaving)}}, kSite);
  const std::vector<PlannedBackend> want{{{ip("10.0.0.1"), 8080}, true, true, false, true, "a", "node-1", ""},
                                         {{ip("10.0.0.2"), 8080}, false, true, true, false, "b", "node-1", ""}};
  EXPECT_EQ(list, want);
}

}  // namespace
}  // namespace fairlead::services
