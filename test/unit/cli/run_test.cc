// SPDX-License-Identifier: Apache-2.0
// fairleadctl whole, against the agent's own local server and status hub over a real socket.
#include "agent/cli/run.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <optional>
#include <sstream>
#include <thread>

#include "agent/cli/commands.h"
#include "agent/observe/status_hub.h"
#include "agent/server/local_server.h"

namespace fairlead::cli {
namespace {

struct Ran {
  int code;
  std::string out;
  std::string err;
};

Ran run_words(std::vector<std::string> words) {
  words.insert(words.begin(), "fairleadctl");
  std::vector<const char*> argv;
  for (const std::string& word : words) argv.push_back(word.c_str());
  std::ostringstream out, err;
  const int code = run(static_cast<int>(argv.size()), argv.data(), out, err);
  return {code, out.str(), err.str()};
}

class FairleadctlTest : public testing::Test {
 protected:
  FairleadctlTest() : folder_(testing::TempDir() + "run_test." + std::to_string(::getpid())) {
    std::filesystem::remove_all(folder_);
    auto [services, services_end] = make_request<Inspect, Json>();
    auto [flows, flows_end] = make_request<Inspect, Json>();
    flows_end_ = std::move(flows_end);
    flows_end_.attach(loop_, [](const Inspect& request, Reply<Json> reply) {
      const Json end{{"address", "10.0.0.1"}, {"port", 53}};
      if (request.op == "conntrack.flush") return reply(request.args);
      if (request.op == "conntrack.list") {  // three pages
        const int page = request.args.value("cursor", 0);
        return reply(Json{{"items", {{{"protocol", "UDP"}, {"client", end}, {"server", end}, {"state", page}}}},
                          {"next", page < 2 ? Json(page + 1) : Json()}});
      }
      const int after = request.args.value("after", 10);  // a drop each time
      reply(Json{{"items", {{{"reason", "fragment"}, {"source", end}, {"destination", end}, {"packets", after}}}},
                 {"next", after + 1},
                 {"lost", after == 11 ? 5 : 0}});
    });
    auto [hub, hub_end] = make_request<Inspect, Json>();
    services_end_ = std::move(services_end);
    services_end_.attach(loop_, [this](const Inspect& request, Reply<Json> reply) {
      if (request.op == "services.sync") return reply(Json{{"synced", synced_.load()}});
      if (request.op == "service.list") return reply(Json::array({{{"namespace", "a"}, {"name", "web"}}}));
      if (request.op == "service.get" && request.args == Json{{"namespace", "a"}, {"name", "web"}}) {
        return reply(Json{{"namespace", "a"}, {"name", "web"}});
      }
      reply(fail(Code::kNotFound, "{} {}", request.op, request.args.dump()));
    });
    hub_.emplace(loop_, clock_,
                 observe::StatusHub::Deps{.components = {{"services", {"services.sync", services}}},
                                          .inspect = std::move(hub_end),
                                          .registry = registry_,
                                          .node = "n1",
                                          .configuration = {{"kind", "AgentConfiguration"}}});
    using std::chrono::seconds;
    server_.emplace(loop_, folder_ + "/agent.sock",
                    server::Routes{{"service.", {services, seconds(5)}},
                                   {"backend.", {services, seconds(5)}},
                                   {"conntrack.", {flows, seconds(5)}},
                                   {"monitor.", {flows, seconds(5)}},
                                   {"status", {hub, seconds(5)}},
                                   {"version", {hub, seconds(5)}},
                                   {"config.", {hub, seconds(5)}}});
    EXPECT_TRUE(server_->start());
    thread_ = std::jthread([this] { loop_.run(); });
  }
  ~FairleadctlTest() override {
    loop_.stop();
    thread_.join();
    server_.reset();
    std::filesystem::remove_all(folder_);
  }

  Ran ctl(std::vector<std::string> words) {
    words.insert(words.begin(), {"--run-dir", folder_});
    return run_words(std::move(words));
  }

  std::string folder_;
  SystemClock clock_;
  Loop loop_;
  metrics::Registry registry_;
  std::atomic<bool> synced_ = true;
  Responder<Inspect, Json> services_end_;
  Responder<Inspect, Json> flows_end_;
  std::optional<observe::StatusHub> hub_;
  std::optional<server::LocalServer> server_;
  std::jthread thread_;
};

TEST_F(FairleadctlTest, StatusExitsZeroOnlyWhenSynced) {
  EXPECT_EQ(ctl({"status"}).code, 0);
  synced_ = false;
  const Ran ran = ctl({"status"});
  EXPECT_EQ(ran.code, 1);
  EXPECT_NE(ran.out.find("Synced:    no\n"), std::string::npos) << ran.out;
  EXPECT_NE(ran.out.find("Missing:   services: changes are under way\n"), std::string::npos) << ran.out;
  EXPECT_EQ(Json::parse(ctl({"status", "-o", "json"}).out)["ready"], false);
}

TEST_F(FairleadctlTest, ListsAndShowsInEachFormat) {
  EXPECT_TRUE(ctl({"service", "list"}).out.starts_with("NAMESPACE   NAME"));
  EXPECT_EQ(ctl({"service", "get", "a/web", "-o", "yaml"}).out, "name: web\nnamespace: a\n");
  EXPECT_EQ(ctl({"-n", "a", "service", "get", "web"}).out,
            "Name:                   a/web\nSession affinity:       none\nState:                  ok\n");
  EXPECT_EQ(ctl({"service", "get", "web", "-n", "a"}).code, 0);
  EXPECT_EQ(Json::parse(ctl({"-o", "json", "service", "list"}).out).at(0)["name"], "web");
  EXPECT_EQ(ctl({"config"}).out, "kind: AgentConfiguration\n");
  EXPECT_NE(ctl({"version"}).out.find("fairlead-agent: "), std::string::npos);
}

TEST_F(FairleadctlTest, ConnectionsComeInPagesAndFiltersAreHandedOver) {
  const Json all = Json::parse(ctl({"conntrack", "list", "-o", "json"}).out);
  ASSERT_EQ(all.size(), 3);
  EXPECT_EQ(all[2]["state"], 2);
  EXPECT_NE(ctl({"conntrack", "list"}).out.find("UDP        0       10.0.0.1:53   10.0.0.1:53"), std::string::npos)
      << ctl({"conntrack", "list"}).out;
  EXPECT_EQ(Json::parse(ctl({"conntrack", "flush", "--port", "53", "--service", "a/dns", "-o", "json"}).out),
            (Json{{"port", "53"}, {"service", "a/dns"}}));
  EXPECT_EQ(ctl({"conntrack", "list", "--nonsense", "1"}).code, 2);
}

TEST_F(FairleadctlTest, MonitorGoesOnFromWhereItWas) {
  const Ran ran = ctl({"monitor", "--count", "3"});
  EXPECT_EQ(ran.code, 0);
  EXPECT_EQ(ran.err, "fairleadctl: 5 missed\n");
  EXPECT_NE(ran.out.find("packets=10"), std::string::npos) << ran.out;
  EXPECT_NE(ran.out.find("packets=12"), std::string::npos) << ran.out;
  const Ran json = ctl({"monitor", "--count", "1", "-o", "json"});
  EXPECT_EQ(Json::parse(json.out)["reason"], "fragment");
}

TEST(Fairleadctl, DropsNameDevices) {
  const Json end{{"address", "10.0.0.1"}, {"port", 53}};
  Json drop{{"kind", "drop"},        {"time", "T"},       {"reason", "policy_egress"},
            {"direction", "to-pod"}, {"pod", ""},         {"device", "eth0"},
            {"ifindex", 7},          {"protocol", "UDP"}, {"source", end},
            {"destination", end},    {"packets", 2},      {"length", 60}};
  EXPECT_NE(render_drop(drop).find(" to   device eth0 UDP 10.0.0.1:53 -> 10.0.0.1:53 packets=2"), std::string::npos)
      << render_drop(drop);
  drop["device"] = "";  // gone
  EXPECT_NE(render_drop(drop).find("device #7"), std::string::npos) << render_drop(drop);
}

TEST(Fairleadctl, FlowsShowWhereTheyGo) {
  const Json flow{{"kind", "flow"},
                  {"time", "T"},
                  {"state", "SYN_SENT"},
                  {"protocol", "TCP"},
                  {"client", {{"address", "10.1.0.2"}, {"port", 40'000}}},
                  {"client_pod", "default/a"},
                  {"server", {{"address", "10.96.0.1"}, {"port", 80}}},
                  {"service", "default/web"},
                  {"from", {{"address", "192.0.2.1"}, {"port", 61'000}}},
                  {"to", {{"address", "10.1.0.3"}, {"port", 8080}}},
                  {"server_pod", "default/b"}};
  EXPECT_EQ(render_flow(flow),
            "T SYN_SENT        TCP default/a:40000 -> default/web:80 -> default/b:8080 as 192.0.2.1:61000\n");
}

TEST_F(FairleadctlTest, TheAgentsErrorIsShown) {
  const Ran ran = ctl({"service", "get", "x"});
  EXPECT_EQ(ran.code, 1);
  EXPECT_EQ(ran.err, "fairleadctl: service.get {\"name\":\"x\",\"namespace\":\"default\"}\n");
  EXPECT_EQ(ctl({"backend", "list", "-n", "b"}).err, "fairleadctl: backend.list {\"namespace\":\"b\"}\n");
}

TEST(Fairleadctl, SaysWhereItLookedForTheAgent) {
  const Ran ran = run_words({"--run-dir", "/nonexistent", "status"});
  EXPECT_EQ(ran.code, 1);
  EXPECT_NE(ran.err.find("no agent at /nonexistent/agent.sock"), std::string::npos) << ran.err;
  EXPECT_NE(ran.err.find("fairlead-agent --run-dir /nonexistent"), std::string::npos) << ran.err;
  const Ran version = run_words({"--run-dir", "/nonexistent", "version"});
  EXPECT_EQ(version.code, 1);
  EXPECT_TRUE(version.out.starts_with("fairleadctl: ")) << version.out;
}

TEST(Fairleadctl, WrongUsageExitsTwo) {
  for (const auto& words : std::vector<std::vector<std::string>>{{},
                                                                 {"nonsense"},
                                                                 {"service"},
                                                                 {"service", "get"},
                                                                 {"status", "extra"},
                                                                 {"-o", "xml", "status"},
                                                                 {"--flag"}}) {
    const Ran ran = run_words(words);
    EXPECT_EQ(ran.code, 2) << ran.out;
    EXPECT_TRUE(ran.err.starts_with("fairleadctl: ")) << ran.err;
  }
  const Ran help = run_words({"--help"});
  EXPECT_EQ(help.code, 0);
  EXPECT_NE(help.out.find("  service get [NAMESPACE/]NAME"), std::string::npos) << help.out;
}

}  // namespace
}  // namespace fairlead::cli
