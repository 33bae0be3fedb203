// SPDX-License-Identifier: Apache-2.0
#include "agent/services/slice_controller.h"

#include <gtest/gtest.h>

#include "test/unit/services/rows.h"

namespace fairlead::services {
namespace {

using Pods = std::vector<std::shared_ptr<const model::LocalPod>>;

std::map<std::string, model::EndpointSlice> slices_of(const model::Service& service, const Pods& pods) {
  return compute_slices(service, pods, "node-1", "", {Family::kV4});
}

TEST(Slices, OneAFamilyWithTheConditionsOfEachPod) {
  model::LocalPod unready = pod("b", "web", {"10.0.0.2", "fd01::2"});
  unready.ready = unready.serving = false;
  model::LocalPod leaving = pod("c", "web", {"10.0.0.3"});
  leaving.terminating = true;
  const auto slices = slices_of(service("web", {"10.96.0.10", "fd00::10"}),
                                {shared(leaving), shared(unready), shared(pod("a", "web", {"10.0.0.1", "fd01::1"}))});
  ASSERT_EQ(slices.size(), 2U);
  const model::EndpointSlice v4 = slice("web", "web.ipv4.8080",
                                        {endpoint("10.0.0.1", "a"), endpoint("10.0.0.2", "b", false, false),
                                         endpoint("10.0.0.3", "c", false, true, true)});
  EXPECT_EQ(slices.at("default/web.ipv4.8080"), v4);
  EXPECT_EQ(
      slices.at("default/web.ipv6.8080"),
      slice("web", "web.ipv6.8080", {endpoint("fd01::1", "a"), endpoint("fd01::2", "b", false, false)}, Family::kV6));
}

// The EndpointSlice controller's hints: of ready endpoints only; PreferSameNode has both kinds.
TEST(Slices, HintsFollowTrafficDistribution) {
  model::LocalPod unready = pod("b", "web", {"10.0.0.2"});
  unready.ready = false;
  using Names = std::vector<std::string>;
  const struct {
    model::TrafficDistribution distribution;
    Names zones, nodes;
  } cases[] = {{model::TrafficDistribution::kAll, {}, {}},
               {model::TrafficDistribution::kSameZone, {"zone-a"}, {}},
               {model::TrafficDistribution::kSameNode, {"zone-a"}, {"node-1"}}};
  for (const auto& each : cases) {
    model::Service web = service("web");
    web.distribution = each.distribution;
    const auto endpoints =
        compute_slices(web, {shared(pod("a", "web", {"10.0.0.1"})), shared(unready)}, "node-1", "zone-a", {Family::kV4})
            .at("default/web.ipv4.8080")
            .endpoints;
    EXPECT_EQ(endpoints[0].zone, "zone-a");
    EXPECT_EQ(endpoints[0].zone_hints, each.zones);
    EXPECT_EQ(endpoints[0].node_hints, each.nodes);
    EXPECT_EQ(endpoints[1].zone_hints, Names{});
    EXPECT_EQ(endpoints[1].node_hints, Names{});
  }
  model::Service web = service("web");
  web.distribution = model::TrafficDistribution::kSameZone;
  EXPECT_EQ(compute_slices(web, {shared(pod("a", "web", {"10.0.0.1"}))}, "node-1", "", {Family::kV4})
                .at("default/web.ipv4.8080")
                .endpoints[0]
                .zone_hints,
            Names{});
}

TEST(Slices, LeaveOutPodsThatAreNoEndpoints) {
  model::LocalPod finished = pod("done", "web", {"10.0.0.4"});
  finished.terminal = true;
  EXPECT_TRUE(slices_of(service("web"),
                        {shared(finished), shared(pod("young", "web", {})), shared(pod("other", "db", {"10.0.0.5"})),
                         shared(pod("wrong-family", "web", {"fd01::5"}))})
                  .empty());
  model::Service written_by_others = service("web");
  written_by_others.selector.clear();
  EXPECT_TRUE(slices_of(written_by_others, {shared(pod("a", "web", {"10.0.0.1"}))}).empty());
}

TEST(Slices, NamedPortsWithDifferentNumbersGoIntoSlicesApart) {
  model::Service web = service("web");
  web.ports = {{"http", 80, Protocol::kTcp, std::string("www"), 0}, {"raw", 81, Protocol::kTcp, std::uint16_t{0}, 0}};
  model::LocalPod old_pod = pod("old", "web", {"10.0.0.1"});
  old_pod.named_ports = {{"www", {8080, Protocol::kTcp}}};
  model::LocalPod new_pod = pod("new", "web", {"10.0.0.2"});
  new_pod.named_ports = {{"www", {9090, Protocol::kTcp}}};
  model::LocalPod udp = pod("udp", "web", {"10.0.0.3"});
  udp.named_ports = {{"www", {8080, Protocol::kUdp}}};
  const auto slices = slices_of(web, {shared(old_pod), shared(new_pod), shared(udp)});
  ASSERT_EQ(slices.size(), 3U);
  using Ports = std::vector<model::EndpointPort>;
  const auto& first = slices.at("default/web.ipv4.http-8080.raw-81");
  EXPECT_EQ(first.ports, (Ports{{"http", 8080, Protocol::kTcp}, {"raw", 81, Protocol::kTcp}}));
  EXPECT_EQ(first.endpoints, std::vector{endpoint("10.0.0.1", "old")});
  EXPECT_EQ(slices.at("default/web.ipv4.http-9090.raw-81").endpoints, std::vector{endpoint("10.0.0.2", "new")});
  EXPECT_EQ(slices.at("default/web.ipv4.raw-81").endpoints, std::vector{endpoint("10.0.0.3", "udp")});
}

TEST(Slices, PublishNotReadyMakesEveryPodReady) {
  model::Service web = service("web");
  web.publish_not_ready = true;
  model::LocalPod unready = pod("a", "web", {"10.0.0.1"});
  unready.ready = unready.serving = false;
  unready.terminating = true;
  EXPECT_EQ(slices_of(web, {shared(unready)}).at("default/web.ipv4.8080").endpoints,
            std::vector{endpoint("10.0.0.1", "a", true, false, true)});
}

TEST(Slices, ServicesOfAnotherProxyHaveThemToo) {
  model::Service others = service("web");
  others.other_proxy = true;
  EXPECT_EQ(slices_of(others, {shared(pod("a", "web", {"10.0.0.1"}))}).size(), 1U);
}

TEST(Slices, HeadlessServicesHaveThemToo) {
  model::Service headless = service("web", {});
  headless.headless = true;
  EXPECT_EQ(slices_of(headless, {shared(pod("a", "web", {"10.0.0.1"}))}).size(), 1U);
  headless.families = {Family::kV6};
  EXPECT_TRUE(slices_of(headless, {shared(pod("a", "web", {"10.0.0.1"}))}).empty());
}

struct ControllerTest : testing::Test {
  Loop loop;
  state::Table<model::Service> services{{"manifests"}};
  state::Table<model::LocalPod> pods{{"pods"}};
  state::Table<model::EndpointSlice> slices{{"local"}};
  state::TableReader<model::EndpointSlice> written = slices.reader();
  TableWriter<model::Service> service_writer = services.writer("manifests");
  TableWriter<model::LocalPod> pod_writer = pods.writer("pods");
  SliceController controller{loop,
                             {.services = services.reader(),
                              .pods = pods.reader(),
                              .slices = slices.writer("local"),
                              .node = "node-1",
                              .zone = "",
                              .families = {Family::kV4}}};

  // Keys of the slices that the last step wrote.
  std::vector<std::string> step() {
    loop.poll();
    std::vector<std::string> keys;
    for (const auto& change : written.take().changes) keys.push_back((change.after ? "" : "-") + change.key);
    return keys;
  }
};

TEST_F(ControllerTest, FollowsPodsAndServicesAndWritesOnlyWhatDiffers) {
  using Keys = std::vector<std::string>;
  service_writer.upsert("default/web", service("web"));
  service_writer.upsert("default/db", service("db"));
  pod_writer.upsert("a", pod("a", "web", {"10.0.0.1"}));
  pod_writer.upsert("b", pod("b", "db", {"10.0.0.2"}));
  EXPECT_EQ(step(), (Keys{"default/db.ipv4.8080", "default/web.ipv4.8080"}));

  pod_writer.upsert("a", pod("a", "web", {"10.0.0.1"}));  // nothing new
  EXPECT_EQ(step(), Keys{});

  model::LocalPod relabelled = pod("a", "db", {"10.0.0.1"});
  pod_writer.upsert("a", relabelled);
  EXPECT_EQ(step(), (Keys{"default/db.ipv4.8080", "-default/web.ipv4.8080"}));
  EXPECT_EQ(slices.get("default/db.ipv4.8080")->endpoints.size(), 2U);

  pod_writer.erase("b");
  EXPECT_EQ(step(), Keys{"default/db.ipv4.8080"});
  service_writer.erase("default/db");
  EXPECT_EQ(step(), Keys{"-default/db.ipv4.8080"});
}

TEST_F(ControllerTest, IsCompleteOnceBothOfItsTablesAre) {
  service_writer.set_complete();
  loop.poll();
  EXPECT_EQ(slices.missing(), std::vector<std::string>{"local"});
  pod_writer.upsert("a", pod("a", "web", {"10.0.0.1"}));
  service_writer.upsert("default/web", service("web"));
  pod_writer.set_complete();
  loop.poll();
  EXPECT_TRUE(slices.missing().empty());
  EXPECT_EQ(slices.size(), 1U);
}

TEST_F(ControllerTest, AnotherNamespacesPodsAreNotSelected) {
  model::LocalPod foreign = pod("a", "web", {"10.0.0.1"});
  foreign.id.ns = "other";
  pod_writer.upsert("a", foreign);
  service_writer.upsert("default/web", service("web"));
  EXPECT_TRUE(step().empty());
}

}  // namespace
}  // namespace fairlead::services
