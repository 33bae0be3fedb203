// SPDX-License-Identifier: Apache-2.0
#include "agent/services/services.h"

#include "test/kit/log_lines.h"
#include "test/unit/services/services_fixture.h"

namespace fairlead::services {
namespace {

using namespace std::chrono_literals;

TEST_F(ServicesTest, TouchesNothingBeforeAllIsKnownAndCleansUpLast) {
  make();
  declare("web", 10, {"10.0.0.1"});
  declare("db", 11, {"10.0.0.2"});
  services.set_complete();
  loop.poll();
  EXPECT_EQ(ask("services.sync").value()["missing"], (Json{"EndpointSlice", "LocalPod", "Node", "HostPort"}));
  slices.set_complete();
  loop.poll();
  EXPECT_TRUE(balancer.calls.empty());
  EXPECT_FALSE(heard());
  EXPECT_FALSE(domain->health().synced);
  pods.set_complete();
  loop.poll();
  EXPECT_TRUE(balancer.calls.empty());
  host_ports.set_complete();
  loop.poll();
  EXPECT_TRUE(balancer.calls.empty());
  nodes.set_complete();
  loop.poll();
  EXPECT_EQ(balancer.calls,
            (std::vector<std::string>{std::string("apply ") + kDb, std::string("apply ") + kWeb, "remove_unclaimed"}));
  EXPECT_EQ(balancer.backends(kWeb), "10.0.0.1");
  EXPECT_TRUE(domain->health().synced);
}

TEST_F(ServicesTest, StartsWithoutLocalPodsOnceItsPatienceEnds) {
  pods_patience = 0ms;
  make();
  declare("web", 10, {"10.0.0.1"});
  services.set_complete();
  slices.set_complete();
  loop.poll();
  EXPECT_EQ(balancer.backends(kWeb), "10.0.0.1");
}

TEST_F(ServicesTest, AChangedSliceCostsItsServiceOnly) {
  for (int i = 0; i < 200; ++i) declare("s" + std::to_string(i), i + 1, {"10.0.0.1", "10.0.0.2"});
  start();
  list("s7", {"10.0.0.3"});
  loop.poll();
  EXPECT_EQ(balancer.calls, std::vector<std::string>{"apply default/s7:80/TCP/4"});
  EXPECT_EQ(balancer.backends("default/s7:80/TCP/4"), "10.0.0.3");
  balancer.calls.clear();
  list("s7", {"10.0.0.3"});  // says nothing new
  services.upsert("default/s8", service("s8", {"10.96.0.9"}));
  loop.poll();
  EXPECT_TRUE(balancer.calls.empty());
}

TEST_F(ServicesTest, ASliceMayMoveToAnotherService) {
  declare("web", 10, {"10.0.0.1"});
  declare("db", 11, {});
  start();
  slices.upsert("default/web-1", slice("db", "web-1", {endpoint("10.0.0.1", "u")}));
  loop.poll();
  EXPECT_EQ(balancer.backends(kWeb), "");
  EXPECT_EQ(balancer.backends(kDb), "10.0.0.1");
}

TEST_F(ServicesTest, RemovedPortsAndServicesLeaveTheMaps) {
  declare("web", 10, {"10.0.0.1"});
  start();
  auto changed = service("web");
  changed.ports[0].port = 81;
  services.upsert("default/web", changed);
  loop.poll();
  EXPECT_EQ(balancer.calls, (std::vector<std::string>{std::string("remove ") + kWeb, "apply default/web:81/TCP/4"}));
  services.erase("default/web");
  loop.poll();
  EXPECT_TRUE(balancer.entries.empty());
  slices.erase("default/web-1");
  loop.poll();
  EXPECT_EQ(ask("services.sync").value()["services"], 0);
}

TEST_F(ServicesTest, AServiceIsLeftToAnotherProxyAndTakenBack) {
  declare("web", 10, {"10.0.0.1"});
  start();
  auto others = service("web");
  others.other_proxy = true;
  services.upsert("default/web", others);
  loop.poll();
  EXPECT_TRUE(balancer.entries.empty());
  const Json shown = ask("service.get", {{"name", "web"}}).value();
  EXPECT_EQ(shown["other_proxy"], true);
  EXPECT_EQ(shown["backends"], 0);
  EXPECT_EQ(shown["ports"][0]["backends"], Json::array());
  balancer.calls.clear();
  list("web", {"10.0.0.2"});
  loop.poll();
  EXPECT_TRUE(balancer.calls.empty());
  services.upsert("default/web", service("web"));
  loop.poll();
  EXPECT_EQ(balancer.backends(kWeb), "10.0.0.2");
}

TEST_F(ServicesTest, SaysOnceWhatIsWithoutEffect) {
  declare("web", 10, {"10.0.0.1"});
  start();
  testkit::LogLines log;
  auto asking = service("web");
  asking.unread = {"spec.externalIPs: not served"};
  services.upsert("default/web", asking);
  loop.poll();
  EXPECT_EQ(log.take(), std::vector<std::string>{"services: a part of a Service is without effect "
                                                 "service=default/web why=\"spec.externalIPs: not served\""});
  EXPECT_EQ(ask("service.get", {{"name", "web"}}).value()["unread"], Json{"spec.externalIPs: not served"});
  asking.publish_not_ready = true;
  services.upsert("default/web", asking);
  list("web", {"10.0.0.2"});
  loop.poll();
  EXPECT_EQ(log.take(), std::vector<std::string>());
  EXPECT_EQ(balancer.backends(kWeb), "10.0.0.2");
}

TEST_F(ServicesTest, AFailedRemovalIsTriedAgain) {
  declare("web", 10, {"10.0.0.1"});
  start();
  balancer.full = {kWeb};
  services.erase("default/web");
  loop.poll();
  EXPECT_EQ(balancer.backends(kWeb), "10.0.0.1");
  EXPECT_EQ(ask("services.sync").value()["failing"], (Json{{"default/web", "default/web:80/TCP/4: map is frozen"}}));
  balancer.full.clear();
  while (!domain->health().synced) loop.poll();  // by back-off
  EXPECT_TRUE(balancer.entries.empty());
}

TEST_F(ServicesTest, AnEntryThatCouldNotBeAppliedIsRemovedAllTheSame) {
  declare("web", 10, {"10.0.0.1"});
  balancer.full = {kWeb};
  start();
  balancer.full.clear();
  services.erase("default/web");
  loop.poll();
  EXPECT_EQ(balancer.calls, std::vector<std::string>{std::string("remove ") + kWeb});
}

TEST_F(ServicesTest, LocalNewsIsInForceWhenItsRevisionIsPublished) {
  declare("web", 10, {"10.0.0.1", "10.0.0.2"});
  pods.upsert("u-10.0.0.1", local("10.0.0.1"));
  start();
  auto leaving = local("10.0.0.1");
  leaving.terminating = true;
  const Revision revision = pods.upsert("u-10.0.0.1", leaving);
  loop.poll();
  EXPECT_EQ(balancer.backends(kWeb), "10.0.0.2");
  const auto said = heard();
  ASSERT_TRUE(said);
  EXPECT_EQ(said->consumer, "services");
  EXPECT_EQ(said->revision, revision);
  EXPECT_TRUE(said->failed.empty());
}

TEST_F(ServicesTest, APodOfNoServiceIsAppliedWithoutAPass) {
  declare("web", 10, {"10.0.0.1"});
  start();
  const Revision revision = pods.upsert("alone", pod("alone", "none", {"10.0.0.9"}));
  loop.poll();
  EXPECT_TRUE(balancer.calls.empty());
  EXPECT_EQ(heard().value().revision, revision);
}

TEST_F(ServicesTest, OnlyTheFailingServicesPodsAreReportedAsFailed) {
  declare("web", 10, {"10.0.0.1"});
  declare("db", 11, {"10.0.0.2"});
  pods.upsert("u-10.0.0.1", local("10.0.0.1"));
  pods.upsert("u-10.0.0.2", local("10.0.0.2"));
  balancer.full = {kDb};
  start();
  auto dead = local("10.0.0.1");
  dead.terminal = true;
  const Revision revision = pods.upsert("u-10.0.0.1", dead);
  loop.poll();
  EXPECT_EQ(balancer.backends(kWeb), "");
  const auto said = heard().value();
  EXPECT_EQ(said.revision, revision);
  EXPECT_EQ(said.failed, (std::map<std::string, std::string>{{"u-10.0.0.2", "default/db:80/TCP/4: map is full"}}));
  balancer.full.clear();
  while (!domain->health().synced) loop.poll();  // by back-off
  EXPECT_TRUE(heard().value().failed.empty());
  EXPECT_EQ(balancer.backends(kDb), "10.0.0.2");
}

TEST_F(ServicesTest, LocalNewsPassesAQueueOfOtherServices) {
  start();
  declare("web", 250, {"10.0.0.1"});
  pods.upsert("u-10.0.0.1", local("10.0.0.1"));
  loop.poll();
  balancer.calls.clear();
  for (int i = 0; i < 1000; ++i) declare(fmt::format("a{:03}", i), 1, {"10.0.1.1"});
  balancer.on_apply = [&] {
    auto dead = local("10.0.0.1");
    dead.terminal = true;
    pods.upsert("u-10.0.0.1", dead);
  };
  loop.poll();
  EXPECT_EQ(balancer.calls.size(), 1001U);
  const auto at = std::ranges::find(balancer.calls, std::string("apply ") + kWeb);
  EXPECT_LT(at - balancer.calls.begin(), 200);
  EXPECT_EQ(balancer.backends(kWeb), "");
}

TEST_F(ServicesTest, ADeadPodStaysOutUntilTheSliceDropsIt) {
  declare("web", 10, {"10.0.0.1", "10.0.0.2"});
  pods.upsert("u-10.0.0.1", local("10.0.0.1"));
  start();
  pods.erase("u-10.0.0.1");
  loop.poll();
  EXPECT_EQ(balancer.backends(kWeb), "10.0.0.2");
  list("web", {"10.0.0.1", "10.0.0.3"});  // a slice that lags behind
  loop.poll();
  EXPECT_EQ(balancer.backends(kWeb), "10.0.0.3");
  list("web", {"10.0.0.3"});
  loop.poll();
  list("web", {"10.0.0.1", "10.0.0.3"});  // and one that lags further
  loop.poll();
  EXPECT_EQ(balancer.backends(kWeb), "10.0.0.3");
  pods.upsert("u-10.0.0.1", local("10.0.0.1"));  // the same static pod, made anew
  loop.poll();
  EXPECT_EQ(balancer.backends(kWeb), "10.0.0.1 10.0.0.3");
}

TEST_F(ServicesTest, OfDeadPodsThatNoSliceListsOnlyTheLatestAreRemembered) {
  start();
  for (int i = 0; i < 2000; ++i) {
    const std::string address = fmt::format("10.1.{}.{}", i / 250, i % 250);
    pods.upsert("u-" + address, local(address));
    loop.poll();
    pods.erase("u-" + address);
    loop.poll();
  }
  declare("web", 10, {"10.1.0.1", "10.1.7.240"});
  loop.poll();
  EXPECT_EQ(balancer.backends(kWeb), "10.1.0.1");
}

// The node's zone decides which hints are meant for it; another zone is another plan for all.
TEST_F(ServicesTest, FollowsTheNodeFromZoneToZone) {
  services.upsert("default/web", service("web"));
  auto near = endpoint("10.0.0.1");
  auto far = endpoint("10.0.0.2");
  near.zone_hints = {"zone-a"};
  far.zone_hints = {"zone-b"};
  slices.upsert("default/web-1", slice("web", "web-1", {near, far}));
  start();
  EXPECT_EQ(balancer.backends(kWeb), "10.0.0.1 10.0.0.2");
  for (const auto& [zone, want] : std::map<std::string, std::string>{
           {"zone-a", "10.0.0.1"}, {"zone-b", "10.0.0.2"}, {"zone-c", "10.0.0.1 10.0.0.2"}}) {
    nodes.upsert("node-1", {"node-1", "", {{model::kZoneLabel, zone}}, {}});
    loop.poll();
    EXPECT_EQ(balancer.backends(kWeb), want) << zone;
  }
  nodes.upsert("node-2", {"node-2", "", {{model::kZoneLabel, "zone-a"}}, {}});
  balancer.calls.clear();
  nodes.upsert("node-1", {"node-1", "", {{model::kZoneLabel, "zone-c"}, {"other", "label"}}, {}});
  loop.poll();
  EXPECT_TRUE(balancer.calls.empty()) << "the zone is the same";
}

TEST_F(ServicesTest, AnAuditRepairsWhatDiffers) {
  audit_period = 1ms;
  declare("web", 10, {"10.0.0.1"});
  declare("db", 11, {"10.0.0.2"});
  start();
  balancer.entries.erase(kWeb);
  balancer.differing = {kWeb};
  while (balancer.calls.empty()) loop.poll();
  EXPECT_EQ(balancer.calls, std::vector<std::string>{std::string("apply ") + kWeb});
  EXPECT_EQ(balancer.backends(kWeb), "10.0.0.1");
}

TEST_F(ServicesTest, MetricsAndHealthFollowThePasses) {
  declare("web", 10, {"10.0.0.1", "10.0.0.2"});
  start();
  clock.advance(10s);
  list("web", {"10.0.0.1"});
  loop.poll();
  const std::string text = metrics_text();
  for (const char* line :
       {"kubeproxy_sync_proxy_rules_service_changes_total 1\n", "kubeproxy_sync_proxy_rules_endpoint_changes_total 2\n",
        "fairlead_services 1\n", "fairlead_service_backends 1\n", "fairlead_service_failing 0\n",
        "kubeproxy_sync_proxy_rules_duration_seconds_count"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line << text;
  }
  auto health = domain->health();
  EXPECT_EQ(health.last_updated, clock.wall());
  EXPECT_FALSE(health.pending_since);
  const WallTime since = clock.wall();
  balancer.full = {kWeb};
  list("web", {});
  loop.poll();
  clock.advance(10s);
  health = domain->health();
  EXPECT_FALSE(health.synced);
  EXPECT_EQ(health.pending_since, since);
}

TEST_F(ServicesTest, AnswersQuestions) {
  auto web = service("web");
  web.affinity_timeout_s = 600;
  web.balancing = Balancing::kMaglev;
  web.distribution = model::TrafficDistribution::kSameNode;
  web.zone_weights = {{"zone-a", 3}};
  web.unread = {"some annotation: why"};
  services.upsert("default/web", web);
  balancer.uses[kWeb] = {.hits = 12, .backends = {{{ip("10.0.0.1"), 8080}, 9, 2}}};
  auto other = service("other", {"10.96.0.12"});
  other.id.ns = "kube-system";
  services.upsert("kube-system/other", other);
  list("web", {"10.0.0.1", "10.0.0.2"});
  auto leaving = local("10.0.0.2");
  leaving.terminating = true;
  pods.upsert("u-10.0.0.2", leaving);
  start();

  const Json port{{"name", ""}, {"port", 80}, {"protocol", "TCP"}, {"target_port", 8080}, {"node_port", 0}};
  Json want{{"namespace", "default"},
            {"name", "web"},
            {"type", "ClusterIP"},
            {"headless", false},
            {"error", ""},
            {"cluster_ips", Json::array({"10.96.0.10"})},
            {"other_proxy", false},
            {"backends", 1},
            {"ports", {port}},
            {"affinity_timeout_seconds", 600}};
  want.update(
      {{"balancing", "maglev"}, {"internal_traffic_policy", "Cluster"}, {"traffic_distribution", "PreferSameNode"}});
  EXPECT_EQ(ask("service.list", {{"namespace", "default"}}).value(), Json::array({want}));
  EXPECT_EQ(ask("service.list").value().size(), 2U);

  Json backends = Json::array({{{"address", "10.0.0.1"},
                                {"port", 8080},
                                {"ready", true},
                                {"serving", true},
                                {"terminating", false},
                                {"pod_uid", "u-10.0.0.1"},
                                {"node", "node-1"},
                                {"zone", ""},
                                {"weight", 1},
                                {"hits", 9},
                                {"open", 2},
                                {"state", "active"}},
                               {{"address", "10.0.0.2"},
                                {"port", 8080},
                                {"ready", false},
                                {"serving", true},
                                {"terminating", true},
                                {"pod_uid", "u-10.0.0.2"},
                                {"node", "node-1"},
                                {"zone", ""},
                                {"weight", 1},
                                {"hits", 0},
                                {"open", 0},
                                {"state", "terminating"}}});
  want["uid"] = "web-uid";
  want["selector"] = {{"app", "web"}};
  want["publish_not_ready"] = false;
  want["zone_weights"] = {{"zone-a", 3}};
  want["unread"] = {"some annotation: why"};
  want["ports"][0]["hits"] = 12;
  want["ports"][0]["backends"] = backends;
  EXPECT_EQ(ask("service.get", {{"name", "web"}}).value(), want);

  for (Json& backend : backends) {
    backend.update(
        {{"namespace", "default"}, {"service", "web"}, {"service_port", 80}, {"protocol", "TCP"}, {"port_name", ""}});
  }
  EXPECT_EQ(ask("backend.list").value(), backends);
  EXPECT_EQ(ask("backend.list", {{"name", "other"}}).value(), Json::array());

  const Json sync = ask("services.sync").value();
  EXPECT_EQ(sync["synced"], true);
  EXPECT_EQ(sync["missing"], Json::array());
  EXPECT_EQ(sync["maps"], (Json{{{"map", "services"}, {"used", 2}, {"capacity", 100}}}));

  EXPECT_EQ(ask("service.get", {{"name", "none"}}).error().what, "Service default/none: not found");
  EXPECT_EQ(ask("service.get").error().code, Code::kInvalid);
  EXPECT_EQ(ask("service.list", {{"namespace", 5}}).error().code, Code::kInvalid);
  EXPECT_EQ(ask("service.erase").error().code, Code::kNotFound);
}

}  // namespace
}  // namespace fairlead::services
