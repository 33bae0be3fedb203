// SPDX-License-Identifier: Apache-2.0
#include "agent/observe/status_hub.h"

#include <gtest/gtest.h>
#include <prometheus/text_serializer.h>

namespace fairlead::observe {
namespace {

using namespace std::chrono_literals;

TEST(Aggregate, IsReadyWhenAllModulesAre) {
  const Status status =
      aggregate({{"services", Json{{"synced", true}, {"maps", {{{"map", "fl_service"}}}}, {"services", 3}}},
                 {"manifests", Json{{"complete", true}, {"refused", {{{"file", "a.yaml"}}}}}}});
  EXPECT_TRUE(status.synced);
  EXPECT_TRUE(status.answered);
  EXPECT_TRUE(status.serving);
  EXPECT_TRUE(status.missing.empty());
  EXPECT_EQ(status.maps.size(), 1U);
  EXPECT_EQ(status.refused.at(0)["file"], "a.yaml");
  EXPECT_EQ(status.components["services"], (Json{{"synced", true}, {"services", 3}}));
}

TEST(Aggregate, SaysWhatIsMissingAndWhy) {
  const Status status = aggregate(
      {{"services", Json{{"synced", false}, {"missing", {"EndpointSlice"}}, {"failing", {{"a/b", "map full"}}}}},
       {"manifests", Json{{"complete", false}}},
       {"pods", fail(Code::kTimeout, "no answer in time")},
       {"network", Json("nonsense")},
       {"strange", Json{{"synced", "yes"}, {"missing", 7}}}});
  EXPECT_FALSE(status.synced);
  EXPECT_FALSE(status.answered);
  EXPECT_EQ(status.missing, (std::vector<std::string>{"manifests: changes are under way",
                                                      "network: answered with no object", "pods: no answer in time",
                                                      "services: EndpointSlice", "strange: changes are under way"}));
  EXPECT_EQ(status.failing, (std::map<std::string, std::string>{{"services: a/b", "map full"}}));
  EXPECT_EQ(to_json(status)["ready"], false);
}

// An API server that is away, or a kind it does not give, is named, and holds nothing back that can go on.
TEST(Aggregate, ASourceThatIsCutOffIsNotSyncedButAllIsServed) {
  const auto with_api = [](const Json& api) {
    return aggregate({{"api", api}, {"pods", Json{{"synced", true}, {"adopted", true}}}});
  };
  EXPECT_TRUE(with_api({{"complete", true}, {"failing", Json::object()}}).synced);
  const Status away = with_api({{"complete", true}, {"failing", {{"Pod", "connection refused"}}}});
  EXPECT_FALSE(away.synced);
  EXPECT_TRUE(away.serving);
  EXPECT_EQ(away.failing, (std::map<std::string, std::string>{{"api: Pod", "connection refused"}}));
  const Status forbidden = with_api({{"complete", false}, {"missing", {"NetworkPolicy"}}});
  EXPECT_FALSE(forbidden.synced);
  EXPECT_TRUE(forbidden.serving);
  EXPECT_EQ(forbidden.missing, std::vector<std::string>{"api: NetworkPolicy"});
  EXPECT_FALSE(aggregate({{"pods", Json{{"synced", false}, {"adopted", false}}}}).serving);
}

// A hub and one module, "services", on one loop.
class StatusHubTest : public testing::Test {
 protected:
  StatusHubTest() {
    auto [module, module_end] = make_request<Inspect, Json>();
    auto [hub, hub_end] = make_request<Inspect, Json>();
    module_ = std::move(module_end);
    module_.attach(loop_, [this](const Inspect& request, Reply<Json> reply) {
      EXPECT_EQ(request.op, "services.sync");
      if (silent_) return kept_.push_back(std::move(reply));
      reply(Json{{"synced", synced_}, {"adopted", adopted_}});
    });
    caller_ = hub;
    hub_.emplace(loop_, clock_,
                 StatusHub::Deps{.components = {{"services", {"services.sync", module}}},
                                 .inspect = std::move(hub_end),
                                 .registry = registry_,
                                 .node = "n1",
                                 .configuration = {{"kind", "AgentConfiguration"}},
                                 .on_serving = [this] { ++ready_; },
                                 .patience = 20ms});
  }

  Result<Json> ask(const std::string& op) {
    std::optional<Result<Json>> answer;
    caller_.call(loop_, Inspect{op, {}}, 5s, [&](Result<Json> result) { answer = std::move(result); });
    while (!answer) loop_.poll();
    return *answer;
  }

  Loop loop_;
  ManualClock clock_;
  metrics::Registry registry_;
  Responder<Inspect, Json> module_;
  Caller<Inspect, Json> caller_;
  bool synced_ = false;
  bool adopted_ = true;
  bool silent_ = false;
  int ready_ = 0;
  std::vector<Reply<Json>> kept_;
  std::optional<StatusHub> hub_;
};

TEST_F(StatusHubTest, LooksByItselfUntilItServesAndSaysSoOnce) {
  synced_ = adopted_ = false;
  hub_->start();
  for (int i = 0; i < 100; ++i) loop_.poll();
  EXPECT_EQ(ready_, 0);
  EXPECT_EQ((*ask("health.ready"))["healthy"], false);
  adopted_ = true;
  while (ready_ == 0) loop_.poll();
  EXPECT_EQ((*ask("health.ready"))["healthy"], true);
  EXPECT_EQ((*ask("status"))["ready"], false);
  synced_ = true;
  EXPECT_EQ((*ask("status"))["ready"], true);
  EXPECT_EQ(ready_, 1);
  const std::string metrics = prometheus::TextSerializer().Serialize(registry_.Collect());
  for (const char* line : {"fairlead_ready 1\n", "fairlead_component_synced{component=\"services\"} 1\n",
                           "fairlead_build_info{version=\"", "process_open_fds "}) {
    EXPECT_NE(metrics.find(line), std::string::npos) << line << metrics;
  }
  EXPECT_EQ(metrics.find("process_resident_memory_bytes 0\n"), std::string::npos);
}

TEST_F(StatusHubTest, TellsStatusConfigurationAndVersion) {
  const Json status = *ask("status");
  EXPECT_EQ(status["ready"], false);
  EXPECT_EQ(status["node"], "n1");
  EXPECT_EQ(status["missing"], Json::array({"services: changes are under way"}));
  EXPECT_EQ((*ask("config.get"))["kind"], "AgentConfiguration");
  EXPECT_FALSE((*ask("version"))["version"].get<std::string>().empty());
  EXPECT_EQ(ask("other").error().code, Code::kInvalid);
}

TEST_F(StatusHubTest, ProxyHealthGoesStale) {
  EXPECT_EQ((*ask("health.proxy"))["healthy"], false);
  synced_ = true;
  Json health = *ask("health.proxy");
  EXPECT_EQ(health, (Json{{"healthy", true},
                          {"lastUpdated", "2026-01-01T00:00:00Z"},
                          {"currentTime", "2026-01-01T00:00:00Z"},
                          {"nodeEligible", true}}));
  synced_ = false;
  clock_.advance(119s);
  EXPECT_EQ((*ask("health.proxy"))["healthy"], true);
  clock_.advance(1s);
  health = *ask("health.proxy");
  EXPECT_EQ(health["healthy"], false);
  EXPECT_EQ(health["lastUpdated"], "2026-01-01T00:00:00Z");
  EXPECT_EQ((*ask("health.ready"))["healthy"], true);
  EXPECT_EQ((*ask("health.live"))["healthy"], true);
}

TEST_F(StatusHubTest, ASilentModuleIsNotLive) {
  silent_ = true;
  EXPECT_EQ((*ask("health.live"))["healthy"], false);
  EXPECT_EQ((*ask("status"))["missing"][0], "services: no answer from the agent's module in time");
}

TEST_F(StatusHubTest, AnAnswerAfterItsEndIsDropped) {
  silent_ = true;
  std::optional<Code> code;
  caller_.call(loop_, Inspect{"status", {}}, 5s, [&](const Result<Json>& result) { code = result.error().code; });
  while (kept_.empty()) loop_.poll();
  hub_.reset();
  kept_.clear();
  while (!code) loop_.poll();
  EXPECT_EQ(*code, Code::kUnavailable);
}

}  // namespace
}  // namespace fairlead::observe
