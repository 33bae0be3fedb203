// SPDX-License-Identifier: Apache-2.0
// How the socket load balancer spreads connections, and what it counts.
#include "test/netns/sock_lb_fixture.h"

namespace fairlead::datapath {
namespace {

using testkit::ask;
using testkit::Client;
using testkit::Endpoint;

class SockLbBalancingTest : public SockLbTest, public testing::WithParamInterface<Kind> {};
INSTANTIATE_TEST_SUITE_P(Families, SockLbBalancingTest, testing::Values(kV4, kV6, kMapped),
                         [](const auto& kind) { return kind.param.name; });

// How many of `count` connections to the service each backend gets.
std::map<std::string, int> spread(const Kind& kind, int count) {
  std::map<std::string, int> got;
  for (int i = 0; i < count; ++i) ++got[ask(kind.socket, Protocol::kTcp, {ip(kind.service), 80}).value()];
  return got;
}

TEST_P(SockLbBalancingTest, RoundRobinAndRandomFollowWeights) {
  const Kind& kind = GetParam();
  const auto servers = serve(kind.backend, 3);
  ServiceEntry service = entry(kind.service, Protocol::kTcp, servers);
  const auto weigh = [&](const char* name) {  // b0: 1, b1: 2, b2: 3
    const auto& at = servers[static_cast<std::size_t>(name[1] - '0')].endpoint();
    const auto found = std::ranges::find(service.backends, Backend{at.address, at.port});
    return &service.weights[static_cast<std::size_t>(found - service.backends.begin())];
  };
  service.balancing = Balancing::kRoundRobin;
  apply("a", service);
  EXPECT_EQ(spread(kind, 30), (std::map<std::string, int>{{"b0", 10}, {"b1", 10}, {"b2", 10}}));
  service.weights.resize(3);
  *weigh("b0") = 1;
  *weigh("b1") = 2;
  *weigh("b2") = 3;
  apply("a", service);
  EXPECT_EQ(spread(kind, 60), (std::map<std::string, int>{{"b0", 10}, {"b1", 20}, {"b2", 30}}));
  open();  // what is read back says the same
  apply("a", service);
  EXPECT_EQ(agent_.balancer->audit().value(), std::set<std::string>{});
  EXPECT_EQ(spread(kind, 6), (std::map<std::string, int>{{"b0", 1}, {"b1", 2}, {"b2", 3}}));

  service.balancing = Balancing::kRandom;
  *weigh("b2") = 100;
  apply("a", service);
  EXPECT_GT(spread(kind, 100)["b2"], 80);  // of 97; less has a chance of 1e-9
}

TEST_P(SockLbBalancingTest, LeastConnectionsFillsTheEmptiest) {
  const Kind& kind = GetParam();
  const auto servers = serve(kind.backend, 3);
  ServiceEntry service = entry(kind.service, Protocol::kTcp, servers);
  service.balancing = Balancing::kLeastConnections;
  apply("a", service);
  const Endpoint to{ip(kind.service), 80};
  std::map<std::string, std::vector<Client>> open;
  const auto connect = [&] {
    auto client = Client::make(kind.socket, Protocol::kTcp);
    EXPECT_TRUE(client->connect(to));
    const std::string name = client->receive().value().first;
    open[name].push_back(std::move(*client));
    return name;
  };
  for (int i = 0; i < 12; ++i) connect();
  for (const auto& [name, clients] : open) EXPECT_EQ(clients.size(), 4U) << name;
  open["b1"].clear();
  for (int i = 0; i < 4; ++i) EXPECT_EQ(connect(), "b1");

  const auto used = [&] {
    std::uint32_t all = 0;
    for (const auto& backend : agent_.balancer->use("a").backends) all += backend.open;
    return all;
  };
  EXPECT_EQ(used(), 12U);
  // A weight of three: four connections for one of another's, of 12 + 4.
  service.weights = {3, 1, 1};
  apply("a", service);
  for (int i = 0; i < 8; ++i) connect();
  const auto backends = agent_.balancer->use("a").backends;
  EXPECT_EQ(backends[0].open, 12U);
  EXPECT_EQ(backends[1].open + backends[2].open, 8U);
  open.clear();
  EXPECT_EQ(used(), 0U) << "a closed socket is counted no longer";
}

// Whatever becomes of sockets, what is counted as open is open.
TEST_P(SockLbBalancingTest, OpenConnectionsAreNeverLeaked) {
  const Kind& kind = GetParam();
  const auto servers = serve(kind.backend, 1);
  apply("a", entry(kind.service, Protocol::kUdp, servers));
  apply("b", entry(kind.service, Protocol::kTcp, {}, 81));
  const auto open_now = [&] { return agent_.balancer->use("a").backends.at(0).open; };
  const Endpoint to{ip(kind.service), 80};
  {
    auto client = Client::make(kind.socket, Protocol::kUdp);
    for (int i = 0; i < 5; ++i) ASSERT_TRUE(client->connect(to));
    EXPECT_EQ(open_now(), 1U) << "connected anew";
    ASSERT_TRUE(client->connect(servers[0].endpoint()));
    EXPECT_EQ(open_now(), 0U) << "connected elsewhere";
    ASSERT_TRUE(client->connect(to));
    EXPECT_EQ(open_now(), 1U);
    this->open();  // while no agent runs, too
  }
  EXPECT_EQ(Client::make(kind.socket, Protocol::kTcp)->connect({ip(kind.service), 81}).error().sys, ECONNREFUSED);
  apply("a", entry(kind.service, Protocol::kUdp, servers));
  EXPECT_EQ(open_now(), 0U);
  EXPECT_EQ(agent_.balancer->use("a").hits, 6U);
  EXPECT_EQ(agent_.balancer->use("a").backends.at(0).hits, 6U);
  {
    // The backend goes and comes while a socket remembers it: its late end takes nothing from the new one.
    auto client = Client::make(kind.socket, Protocol::kUdp);
    ASSERT_TRUE(client->connect(to));
    for (int i = 0; i < 300; ++i) {  // until every element was used again
      apply("a", entry(kind.service, Protocol::kUdp, {}));
      apply("a", entry(kind.service, Protocol::kUdp, servers));
    }
  }
  EXPECT_EQ(open_now(), 0U);
}

TEST_P(SockLbBalancingTest, PortsThatAreNotServedAreRefused) {
  const Kind& kind = GetParam();
  const auto servers = serve(kind.backend, 1);
  apply("a", entry(kind.service, Protocol::kTcp, servers));
  apply("b", entry(kind.service, Protocol::kUdp, servers, 81));
  const auto outcome = [&](Protocol protocol, std::uint16_t port) {
    const auto connected = Client::make(kind.socket, protocol)->connect({ip(kind.service), port});
    return connected ? 0 : connected.error().sys;
  };
  EXPECT_EQ(outcome(Protocol::kTcp, 80), 0);
  EXPECT_EQ(outcome(Protocol::kTcp, 81), ECONNREFUSED);
  EXPECT_EQ(outcome(Protocol::kUdp, 80), ECONNREFUSED);
  EXPECT_EQ(Client::make(kind.socket, Protocol::kUdp)->send_to({ip(kind.service), 80}).error().sys, ECONNREFUSED);
  ASSERT_TRUE(agent_.balancer->remove("b"));
  EXPECT_EQ(outcome(Protocol::kTcp, 81), ECONNREFUSED);
  open();
  apply("a", entry(kind.service, Protocol::kTcp, servers));
  EXPECT_EQ(outcome(Protocol::kTcp, 81), ECONNREFUSED);
  ASSERT_TRUE(agent_.balancer->remove("a"));
  EXPECT_EQ(outcome(Protocol::kTcp, 81), ENETUNREACH) << "nobody's address any more";
  EXPECT_EQ(agent_.balancer->usage()[0].used + agent_.balancer->usage()[1].used, 0U);
}

// A draining backend keeps its element: what remembers it sees that it gets nothing new, and nobody else takes its
// place.
TEST_P(SockLbBalancingTest, DrainingBackendsGetNothingNew) {
  const Kind& kind = GetParam();
  const auto servers = serve(kind.backend, 2);
  ServiceEntry both = entry(kind.service, Protocol::kUdp, servers);
  both.affinity_timeout_s = 600;
  apply("a", both);
  const Endpoint to{ip(kind.service), 80};
  auto client = Client::make(kind.socket, Protocol::kUdp);
  ASSERT_TRUE(client->send_to(to));
  const std::string first = client->receive().value().first;
  const auto& leaves = servers[static_cast<std::size_t>(first[1] - '0')].endpoint();
  ServiceEntry one = both;
  one.draining = {{leaves.address, leaves.port}};
  std::erase(one.backends, one.draining[0]);
  one.draining.push_back({ip(kind.backend), 9});  // never had a connection: nothing to keep
  apply("a", one);
  const auto expect_moved = [&] {
    ASSERT_TRUE(client->send_to(to));
    EXPECT_NE(client->receive().value().first, first);
    EXPECT_NE(ask(kind.socket, Protocol::kUdp, to).value(), first) << "affinity picks anew, at once";
    EXPECT_EQ(agent_.balancer->use("a").backends.size(), 1U);
    const auto usage = agent_.balancer->usage();
    EXPECT_EQ(usage[4].used + usage[5].used, 2U) << "backends4 and backends6";
    EXPECT_EQ(agent_.balancer->audit().value(), std::set<std::string>{});
  };
  expect_moved();
  open();
  apply("a", one);
  expect_moved();

  apply("a", both);  // back again, with what it counted
  const auto uses = agent_.balancer->use("a").backends;
  ASSERT_EQ(uses.size(), 2U);
  EXPECT_GT(uses[0].hits, 0U);
  EXPECT_GT(uses[1].hits, 0U);
  one.draining.clear();
  apply("a", one);
  const auto usage = agent_.balancer->usage();
  EXPECT_EQ(usage[4].used + usage[5].used, 1U);
}

TEST_P(SockLbBalancingTest, HashesKeepWhatTheyHash) {
  const Kind& kind = GetParam();
  const auto servers = serve(kind.backend, 5);
  ServiceEntry service = entry(kind.service, Protocol::kTcp, servers);
  for (const auto balancing : {Balancing::kSourceHash, Balancing::kDestinationHash}) {
    service.balancing = balancing;
    apply("a", service);
    EXPECT_EQ(spread(kind, 20).size(), 1U) << to_string(balancing);
  }
  // Another client, another service: mostly another backend. Of 120, one of the five is left out with a chance of
  // 1e-11.
  std::set<std::string> by_client, by_service;
  for (unsigned char i = 1; i <= 120; ++i) {
    ASSERT_TRUE(agent_.clients->admit(netns_cookie(),
                                      {IpAddress::from_v4({10, 0, 0, i}), ip(fmt::format("fd00::{:x}", i).c_str())}));
    service.balancing = Balancing::kSourceHash;
    apply("a", service);
    by_client.insert(ask(kind.socket, Protocol::kTcp, {ip(kind.service), 80}).value());
    service.balancing = Balancing::kDestinationHash;
    ServiceEntry other = service;
    other.frontends[0].port = 100 + i;
    apply("other", other);
    by_service.insert(ask(kind.socket, Protocol::kTcp, {ip(kind.service), other.frontends[0].port}).value());
  }
  EXPECT_EQ(by_client.size(), 5U);
  EXPECT_EQ(by_service.size(), 5U);
  service.balancing = Balancing::kMaglev;
  apply("a", service);
  EXPECT_EQ(spread(kind, 100).size(), 5U) << "each flow by itself";
}

}  // namespace
}  // namespace fairlead::datapath
