// SPDX-License-Identifier: Apache-2.0
// What connected sockets remember: as long as the socket, and no longer; with real sockets.
#include <gmock/gmock.h>
#include <sys/wait.h>

#include <csignal>

#include "agent/datapath/map.h"
#include "agent/datapath/socket_memories.h"
#include "test/kit/process.h"
#include "test/netns/sock_lb_fixture.h"

namespace fairlead::datapath {
namespace {

using testkit::Client;
using testkit::Endpoint;

std::vector<socket_memory> elements(const Agent& agent) {
  std::vector<socket_memory> out;
  const auto map = *Map<std::uint32_t, socket_memory>::open(agent.root->map_path("sk_memory"));
  EXPECT_TRUE(map.for_each([&](std::uint32_t, const socket_memory& memory) { out.push_back(memory); }));
  return out;
}

std::size_t taken(const Agent& agent) {
  return static_cast<std::size_t>(std::ranges::count_if(elements(agent), [](const auto& m) { return m.cookie != 0; }));
}

std::size_t displaced(const Agent& agent) {
  std::size_t sum = 0;
  for (const socket_memory& memory : elements(agent)) sum += memory.displaced;
  return sum;
}

Client connected(const Kind& kind, Protocol protocol) {
  auto client = Client::make(kind.socket, protocol).value();
  const auto done = client.connect({ip(kind.service), 80});
  EXPECT_TRUE(done) << kind.name << ": " << done.error().message();
  return client;
}

class SocketMemoryTest : public SockLbTest {
 protected:
  std::uint32_t open_connections(const Agent& agent, const std::string& name) {
    std::uint32_t sum = 0;
    for (const auto& backend : agent.balancer->use(name).backends) sum += backend.open;
    return sum;
  }
};

TEST_F(SocketMemoryTest, GoesWithItsSocket) {
  const auto v4 = serve("127.0.0.1", 1), v6 = serve("::1", 1);
  for (const Protocol protocol : {Protocol::kTcp, Protocol::kUdp}) {
    for (const Kind& kind : {kV4, kV6, kMapped}) {
      apply("a", entry(kind.service, protocol, kind.backend == std::string("::1") ? v6 : v4));
      {
        const Client client = connected(kind, protocol);
        EXPECT_EQ(taken(agent_), 1) << kind.name;
        EXPECT_EQ(open_connections(agent_, "a"), 1) << kind.name;
        EXPECT_EQ(client.peer().value(), (Endpoint{ip(kind.service), 80}));
      }
      EXPECT_EQ(taken(agent_), 0) << kind.name;
      EXPECT_EQ(open_connections(agent_, "a"), 0) << kind.name;
      ASSERT_TRUE(agent_.balancer->remove("a"));
    }
  }
}

TEST_F(SocketMemoryTest, LastsAsLongAsAnyProcessHoldsTheSocket) {
  const auto servers = serve("127.0.0.1", 1);
  apply("a", entry(kV4.service, Protocol::kTcp, servers));
  std::optional<Client> client = connected(kV4, Protocol::kTcp);
  const pid_t heir = fork();
  if (heir == 0) {
    while (true) pause();
  }
  client.reset();
  EXPECT_EQ(taken(agent_), 1);
  kill(heir, SIGKILL);
  ASSERT_EQ(waitpid(heir, nullptr, 0), heir);
  EXPECT_TRUE(testkit::eventually([&] { return taken(agent_) == 0; }));
  EXPECT_EQ(open_connections(agent_, "a"), 0);
}

TEST_F(SocketMemoryTest, AReconnectedSocketHasOneAndAnotherPeerHasNone) {
  const auto servers = serve("127.0.0.1", 2);
  apply("a", entry(kV4.service, Protocol::kUdp, servers));
  Client client = connected(kV4, Protocol::kUdp);
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(client.connect({ip(kV4.service), 80}));
    EXPECT_EQ(taken(agent_), 1);
    EXPECT_EQ(open_connections(agent_, "a"), 1);
  }
  ASSERT_TRUE(client.connect(servers[0].endpoint()));
  EXPECT_EQ(taken(agent_), 0);
  EXPECT_EQ(open_connections(agent_, "a"), 0);
}

// As full as it gets most of them are away from home, and none is lost or mistaken for another's.
TEST_F(SocketMemoryTest, AFullTableRefusesAndIsEmptiedAgain) {
  SockCapacities tiny = kSmall;
  tiny.connected = 64;
  const std::string path = path_ + "-tiny";
  auto agent = Agent::open(path, cgroup_->path(), tiny);
  ASSERT_TRUE(agent) << agent.error().message();
  ASSERT_TRUE(agent->clients->admit(netns_cookie(), {}));
  const auto servers = serve("127.0.0.1", 1);
  ASSERT_TRUE(agent->balancer->apply("a", entry(kV4.service, Protocol::kUdp, servers)));
  ASSERT_TRUE(agent->balancer->apply("b", entry("10.96.0.2", Protocol::kUdp, servers)));
  const Endpoint a{ip(kV4.service), 80}, b{ip("10.96.0.2"), 80};
  std::vector<Client> clients;
  Result<> last;
  for (int i = 0; i < 1000 && last; ++i) {
    {
      const auto between = Client::make(Family::kV4, Protocol::kUdp);
    }  // takes a cookie: every other home is in use
    auto client = Client::make(Family::kV4, Protocol::kUdp).value();
    last = client.connect(i % 2 == 0 ? a : b);
    if (last) clients.push_back(std::move(client));
  }
  ASSERT_FALSE(last);
  EXPECT_EQ(last.error().sys, ENOBUFS);
  EXPECT_GE(clients.size(), 48U);
  EXPECT_EQ(taken(*agent), clients.size());
  EXPECT_GT(displaced(*agent), 0U);
  for (std::size_t i = 0; i < clients.size(); ++i) EXPECT_EQ(clients[i].peer().value(), i % 2 == 0 ? a : b) << i;
  // A socket that is connected goes on where it is, also anew.
  EXPECT_TRUE(clients.front().connect(b));
  clients.clear();
  EXPECT_EQ(taken(*agent), 0U);
  EXPECT_EQ(displaced(*agent), 0U);
  EXPECT_EQ(open_connections(*agent, "a") + open_connections(*agent, "b"), 0U);
  EXPECT_TRUE(Client::make(Family::kV4, Protocol::kUdp)->connect(a));
  ASSERT_TRUE(agent->root->clear());
}

TEST_F(SocketMemoryTest, WhatNoHookSawCloseIsFreedInTheThirdSweep) {
  const auto servers = serve("127.0.0.1", 1);
  apply("a", entry(kV4.service, Protocol::kUdp, servers));
  const Client stays = connected(kV4, Protocol::kUdp);
  const auto before = elements(agent_);
  const std::uint64_t stays_cookie = std::ranges::max_element(before, {}, &socket_memory::cookie)->cookie;
  std::optional<Client> lost = connected(kV4, Protocol::kUdp);
  ASSERT_EQ(unlink(agent_.root->link_path("sock_release").c_str()), 0);
  // The kernel detaches a link that nobody holds when it gets to it.
  EXPECT_TRUE(testkit::eventually([&] {
    std::optional<Client> probe = connected(kV4, Protocol::kUdp);
    const std::size_t with = taken(agent_);
    probe.reset();
    return taken(agent_) == with;
  }));
  lost.reset();
  const std::size_t all = taken(agent_);
  ASSERT_GE(all, 3U);
  ASSERT_TRUE(agent_.programs->attach(cgroup_->path()));

  const auto memories = SocketMemories::open(*agent_.programs).value();
  const auto is_there = [&](std::uint32_t netns, std::uint64_t cookie) {
    EXPECT_EQ(netns, static_cast<std::uint32_t>(netns_cookie()));
    return cookie == stays_cookie;
  };
  EXPECT_EQ(memories->sweep(is_there).value(), 0U);
  EXPECT_EQ(memories->sweep(is_there).value(), 0U);
  EXPECT_EQ(open_connections(agent_, "a"), all);
  EXPECT_EQ(memories->sweep(is_there).value(), all - 1);
  EXPECT_EQ(taken(agent_), 1U);
  EXPECT_EQ(displaced(agent_), 0U);
  EXPECT_EQ(open_connections(agent_, "a"), 1U);
  EXPECT_EQ(stays.peer().value(), (Endpoint{ip(kV4.service), 80}));
}

// One that was taken for lost, but was only out of sight, is closed without harm, and one that is there again stays.
TEST_F(SocketMemoryTest, ASweepDoesNoHarmToSocketsOutOfSight) {
  const auto servers = serve("127.0.0.1", 1);
  apply("a", entry(kV4.service, Protocol::kUdp, servers));
  std::optional<Client> client = connected(kV4, Protocol::kUdp);
  const auto memories = SocketMemories::open(*agent_.programs).value();
  const auto sees = [](bool it) { return [it](std::uint32_t, std::uint64_t) { return it; }; };
  EXPECT_EQ(memories->sweep(sees(false)).value(), 0U);
  EXPECT_EQ(memories->sweep(sees(true)).value(), 0U);
  EXPECT_EQ(memories->sweep(sees(false)).value(), 0U);
  EXPECT_EQ(client->peer().value(), (Endpoint{ip(kV4.service), 80}));
  EXPECT_EQ(memories->sweep(sees(false)).value(), 0U);
  EXPECT_EQ(client->peer().value(), servers[0].endpoint()) << "forgotten";
  client.reset();
  EXPECT_EQ(open_connections(agent_, "a"), 1U);
  EXPECT_EQ(memories->sweep(sees(true)).value(), 1U);
  EXPECT_EQ(taken(agent_), 0U);
  EXPECT_EQ(open_connections(agent_, "a"), 0U);
}

TEST_F(SocketMemoryTest, AnotherSizeIsRefused) {
  agent_ = {};
  SockCapacities larger = kSmall;
  larger.connected = 2 * kSmall.connected;
  const auto refused = Agent::open(path_, cgroup_->path(), larger);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().what, testing::HasSubstr("maps/sk_memory"));
  larger.connected = 100;
  EXPECT_THAT(Agent::open(path_ + "-odd", cgroup_->path(), larger).error().what, testing::HasSubstr("power of two"));
  std::filesystem::remove_all(path_ + "-odd");
}

}  // namespace
}  // namespace fairlead::datapath
