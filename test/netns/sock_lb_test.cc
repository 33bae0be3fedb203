// SPDX-License-Identifier: Apache-2.0
// The socket load balancer with real sockets: what clients see of it.
#include <arpa/inet.h>
#include <gmock/gmock.h>

#include <atomic>
#include <map>
#include <set>
#include <thread>

#include "agent/datapath/abi.h"
#include "agent/datapath/mapped_array.h"
#include "test/netns/sock_lb_fixture.h"

namespace fairlead::datapath {
namespace {

using testkit::ask;
using testkit::Client;
using testkit::EchoServer;
using testkit::Endpoint;
using testkit::PodNetns;

class SockLbKindTest : public SockLbTest, public testing::WithParamInterface<Kind> {};
INSTANTIATE_TEST_SUITE_P(Families, SockLbKindTest, testing::Values(kV4, kV6, kMapped),
                         [](const auto& kind) { return kind.param.name; });

TEST_P(SockLbKindTest, TcpIsSpreadAndShowsTheService) {
  const Kind& kind = GetParam();
  const auto servers = serve(kind.backend, 3);
  apply("a", entry(kind.service, Protocol::kTcp, servers));
  const Endpoint service{ip(kind.service), 80};
  std::map<std::string, int> answers;
  for (int i = 0; i < 150; ++i) {
    auto client = Client::make(kind.socket, Protocol::kTcp);
    const auto connected = client->connect(service);
    ASSERT_TRUE(connected) << connected.error().message();
    EXPECT_EQ(client->peer().value(), service);
    ++answers[client->receive().value().first];
  }
  ASSERT_EQ(answers.size(), 3);
  for (const auto& [name, count] : answers) EXPECT_GT(count, 15) << name;  // of 50; less has a chance of 1e-9
}

TEST_P(SockLbKindTest, ConnectedUdpShowsTheService) {
  const Kind& kind = GetParam();
  const auto servers = serve(kind.backend, 2);
  apply("a", entry(kind.service, Protocol::kUdp, servers));
  const Endpoint service{ip(kind.service), 80};
  auto client = Client::make(kind.socket, Protocol::kUdp);
  ASSERT_TRUE(client->connect(service));
  EXPECT_EQ(client->peer().value(), service);
  std::set<std::string> names;
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(client->send());
    const auto answer = client->receive();
    ASSERT_TRUE(answer) << answer.error().message();
    EXPECT_EQ(answer->second, service);
    names.insert(answer->first);
  }
  EXPECT_EQ(names.size(), 1);
}

TEST_P(SockLbKindTest, UnconnectedUdpKeepsABackendForEachService) {
  const Kind& kind = GetParam();
  constexpr int kServices = 12;  // more than a socket has slots: the rest is spilled
  auto servers = serve(kind.backend, 4);
  for (int i = 0; i < kServices; ++i) {
    apply("s" + std::to_string(i), entry(kind.service, Protocol::kUdp, servers, static_cast<std::uint16_t>(100 + i)));
  }
  const auto spilled = *Map<spill_key, struct spill>::open(agent_.root->map_path("sk_spill"));
  {
    auto client = Client::make(kind.socket, Protocol::kUdp);
    std::map<int, std::string> kept;
    for (int round = 0; round < 5; ++round) {
      for (int i = 0; i < kServices; ++i) {
        const Endpoint service{ip(kind.service), static_cast<std::uint16_t>(100 + i)};
        const auto sent = client->send_to(service);
        ASSERT_TRUE(sent) << sent.error().message();
        const auto answer = client->receive();
        ASSERT_TRUE(answer) << answer.error().message();
        // Services share backends here, so what a reply is shown as may be another service on the same backend; it is
        // always one that this socket sent to, never a backend.
        EXPECT_EQ(answer->second.address, service.address);
        EXPECT_EQ(kept.emplace(i, answer->first).first->second, answer->first);
      }
    }
    EXPECT_EQ(spilled.count().value(), kServices - SOCKET_SLOTS);
  }
  EXPECT_EQ(spilled.count().value(), 0) << "freed with the socket";
}

TEST_P(SockLbKindTest, UnconnectedUdpRepicksOnceItsBackendIsGone) {
  const Kind& kind = GetParam();
  const auto first = serve(kind.backend, 1, "first");
  const auto second = serve(kind.backend, 1, "second");
  const Endpoint service{ip(kind.service), 80};
  auto client = Client::make(kind.socket, Protocol::kUdp);
  // Again and again: a socket's memory is bounded, and what is gone makes room.
  for (int i = 0; i < 100; ++i) {
    apply("a", entry(kind.service, Protocol::kUdp, i % 2 == 0 ? first : second));
    const auto sent = client->send_to(service);
    ASSERT_TRUE(sent) << "round " << i << ": " << sent.error().message();
    const auto answer = client->receive();
    ASSERT_TRUE(answer) << answer.error().message();
    EXPECT_EQ(answer->first, i % 2 == 0 ? "first0" : "second0");
    EXPECT_EQ(answer->second, service);
  }
}

TEST_P(SockLbKindTest, NoBackendsRefusesAtOnce) {
  const Kind& kind = GetParam();
  apply("tcp", entry(kind.service, Protocol::kTcp, {}));
  apply("udp", entry(kind.service, Protocol::kUdp, {}));
  const Endpoint service{ip(kind.service), 80};
  EXPECT_EQ(Client::make(kind.socket, Protocol::kTcp)->connect(service).error().sys, ECONNREFUSED);
  EXPECT_EQ(Client::make(kind.socket, Protocol::kUdp)->connect(service).error().sys, ECONNREFUSED);
  EXPECT_EQ(Client::make(kind.socket, Protocol::kUdp)->send_to(service).error().sys, ECONNREFUSED);
}

TEST_P(SockLbKindTest, AffinityHoldsUntilItsTimeoutOrItsBackendsEnd) {
  const Kind& kind = GetParam();
  const auto servers = serve(kind.backend, 8);
  ServiceEntry service = entry(kind.service, Protocol::kTcp, servers);
  service.affinity_timeout_s = 60;
  apply("a", service);
  const Endpoint to{ip(kind.service), 80};
  const std::string kept = ask(kind.socket, Protocol::kTcp, to).value();
  for (int i = 0; i < 30; ++i) EXPECT_EQ(ask(kind.socket, Protocol::kTcp, to).value(), kept);

  // Shifts the one stamp back by `age`; the entry's client is the namespace's address, not the socket's.
  const auto age_by = [&](std::chrono::nanoseconds age) {
    const auto shift = [&]<class K>(Map<K, affinity> map, const auto& client) {
      std::vector<std::pair<K, affinity>> all;
      EXPECT_TRUE(map.for_each([&](const K& key, const affinity& value) { all.emplace_back(key, value); }));
      ASSERT_EQ(all.size(), 1);
      EXPECT_EQ(std::memcmp(&all[0].first.client, &client, sizeof(client)), 0);
      all[0].second.seen_ns -= static_cast<std::uint64_t>(age.count());
      EXPECT_TRUE(map.update(all[0].first, all[0].second));
    };
    if (ip(kind.backend).is_v4()) {
      shift(*Map<affinity_v4, affinity>::open(agent_.root->map_path("affinity4")), ip("10.0.0.9").v4_be());
    } else {
      shift(*Map<affinity_v6, affinity>::open(agent_.root->map_path("affinity6")), to_abi_v6(ip("fd00::9")));
    }
  };
  age_by(std::chrono::seconds(55));
  EXPECT_EQ(ask(kind.socket, Protocol::kTcp, to).value(), kept) << "within the timeout";
  age_by(std::chrono::seconds(55));
  EXPECT_EQ(ask(kind.socket, Protocol::kTcp, to).value(), kept) << "a connection renews the stamp";
  std::set<std::string> after;
  for (int i = 0; i < 60; ++i) {
    age_by(std::chrono::seconds(61));
    after.insert(ask(kind.socket, Protocol::kTcp, to).value());
  }
  EXPECT_GT(after.size(), 3) << "past the timeout each connection chooses anew";

  const std::string last = ask(kind.socket, Protocol::kTcp, to).value();
  const auto gone = std::ranges::find_if(
      servers, [&](const EchoServer& s) { return "b" + std::to_string(&s - servers.data()) == last; });
  std::erase(service.backends, Backend{gone->endpoint().address, gone->endpoint().port});
  apply("a", service);
  const std::string other = ask(kind.socket, Protocol::kTcp, to).value();
  EXPECT_NE(other, last) << "a backend that left is not kept";
  EXPECT_EQ(ask(kind.socket, Protocol::kTcp, to).value(), other);
}

// Sets flip between two without a common backend. No connection fails; one that begins and ends between two changes
// reaches the set in force. Some changes follow each other at once, before some the clients get a few turns.
TEST_P(SockLbKindTest, ChangingSetsAreNeverSeenByHalf) {
  const Kind& kind = GetParam();
  const auto even = serve(kind.backend, 3, "even");
  const auto odd = serve(kind.backend, 2, "odd");
  const ServiceEntry sets[] = {entry(kind.service, Protocol::kTcp, even), entry(kind.service, Protocol::kTcp, odd)};
  apply("a", sets[0]);
  std::atomic<bool> stop = false;
  std::atomic<int> connections = 0;
  std::atomic<int> judged = 0;
  std::atomic<std::uint64_t> changes = 0;  // 2n: set n % 2 is in force; odd: a change is under way
  std::vector<std::string> failures[2];
  {
    std::vector<std::jthread> clients;
    for (auto& failed : failures) {
      clients.emplace_back([&] {
        while (!stop) {
          const std::uint64_t before = changes;
          const auto answer = ask(kind.socket, Protocol::kTcp, {ip(kind.service), 80});
          const bool settled = before % 2 == 0 && before == changes;
          if (settled) ++judged;
          if (!answer) {
            failed.push_back(answer.error().message());
          } else if (settled && !answer->starts_with(before / 2 % 2 == 0 ? "even" : "odd")) {
            failed.push_back(fmt::format("{} answered after {} changes", *answer, before / 2));
          }
          ++connections;
        }
      });
    }
    for (int i = 1; i <= 3000; ++i) {
      ++changes;
      const auto applied = agent_.balancer->apply("a", sets[i % 2]);
      ++changes;
      EXPECT_TRUE(applied) << applied.error().message();
      for (const int target = connections + 4; i % 8 == 0 && connections < target;) std::this_thread::yield();
    }
    stop = true;
  }
  for (auto& failed : failures) {
    failed.resize(std::min<std::size_t>(failed.size(), 5));
    EXPECT_THAT(failed, testing::IsEmpty());
  }
  EXPECT_GT(judged, 300);
}

// The same by a reader that looks as BPF programs do, but without pause: it meets every order of stores that there is.
// Runs of up to four backends stand in the service's element, where there is room beside the one before.
struct Sizes {
  std::size_t even, odd;
};
class SockLbReaderTest : public SockLbTest, public testing::WithParamInterface<Sizes> {};
INSTANTIATE_TEST_SUITE_P(Sets, SockLbReaderTest, testing::Values(Sizes{25, 20}, Sizes{4, 3}, Sizes{5, 4}, Sizes{2, 1}));

TEST_P(SockLbReaderTest, NeverSeesHalfASet) {
  ServiceEntry sets[2];
  for (std::uint16_t i = 0; i < 50; ++i) {
    sets[i % 2].backends.push_back({ip("127.0.0.1"), static_cast<std::uint16_t>(1000 + i)});
  }
  for (ServiceEntry& set : sets) set.frontends = {{ip(kV4.service), 80, Protocol::kTcp}};
  sets[0].backends.resize(GetParam().even);
  sets[1].backends.resize(GetParam().odd);
  apply("a", sets[0]);
  const auto array = [&]<class T>(const char* name, T) {
    const auto map = *Map<std::uint32_t, T>::open(agent_.root->map_path(name));
    return *MappedArray<T>::open(map.fd(), map.capacity(), name);
  };
  auto services = array("services", ::service{});
  std::uint32_t index = 1;
  while (services[index].tag == 0) ++index;
  ::service& service = services[index];
  const auto runs = array("runs", run_slot{});
  const auto backends = array("backends4", backend_v4{});
  std::atomic<bool> stop = false;
  std::atomic<int> changes = 0;
  std::atomic<int> judged = 0;
  int halves = 0;
  std::jthread reader([&] {
    std::atomic_ref run(service.run);
    while (!stop) {
      const int change = changes;
      const std::uint64_t seen = run.load();
      const auto base = static_cast<std::uint32_t>(seen);
      const auto count = static_cast<std::uint32_t>(seen >> 32);
      unsigned of_set[2] = {};
      bool whole = true;
      for (std::uint32_t i = base; i < base + count; ++i) {
        const bool own = is_own_run(base);
        whole = whole && (own || runs[i].tag == service.tag);
        const std::uint32_t backend = own ? service.own_run[i - SERVICE_OWN_RUN] : runs[i].backend;
        ++of_set[ntohs(backends[backend].port) % 2];
      }
      std::atomic_thread_fence(std::memory_order_acquire);
      if (run.load() != seen || changes != change) continue;  // not one look
      ++judged;
      if (!whole || (of_set[0] != 0) == (of_set[1] != 0) || count != sets[of_set[1] != 0].backends.size()) ++halves;
    }
  });
  for (int i = 1; i <= 1'000; ++i) {
    ++changes;
    const auto applied = agent_.balancer->apply("a", sets[i % 2]);
    EXPECT_TRUE(applied) << applied.error().message();
    if (!applied) break;
  }
  stop = true;
  reader.join();
  EXPECT_EQ(halves, 0) << "of " << judged << " looks";
  EXPECT_GT(judged, 10'000);
}

TEST_F(SockLbTest, OtherNamespacesAreUntouched) {
  apply("a", entry(kV4.service, Protocol::kTcp, {}));
  const Endpoint service{ip(kV4.service), 80};
  EXPECT_EQ(Client::make(Family::kV4, Protocol::kTcp)->connect(service).error().sys, ECONNREFUSED);
  const auto other = PodNetns::make("other");
  ASSERT_TRUE(other);
  other->run([&] { EXPECT_EQ(Client::make(Family::kV4, Protocol::kTcp)->connect(service).error().sys, ENETUNREACH); });

  ASSERT_TRUE(agent_.clients->dismiss(netns_cookie()));
  EXPECT_EQ(Client::make(Family::kV4, Protocol::kTcp)->connect(service).error().sys, ENETUNREACH);
  EXPECT_THAT(agent_.clients->admitted().value(), testing::IsEmpty());
}

TEST_F(SockLbTest, ReconnectingForgetsTheService) {
  const auto servers = serve("127.0.0.1", 1);
  apply("a", entry(kV4.service, Protocol::kUdp, servers));
  auto client = Client::make(Family::kV4, Protocol::kUdp);
  ASSERT_TRUE(client->connect({ip(kV4.service), 80}));
  EXPECT_EQ(client->peer().value(), (Endpoint{ip(kV4.service), 80}));
  ASSERT_TRUE(client->connect(servers[0].endpoint()));
  EXPECT_EQ(client->peer().value(), servers[0].endpoint()) << "named by its own address";
}

}  // namespace
}  // namespace fairlead::datapath
