// SPDX-License-Identifier: Apache-2.0
// The socket load balancer with real sockets: programs in a cgroup of the test's own, clients and servers on loopback.
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include <atomic>
#include <filesystem>
#include <map>
#include <set>
#include <thread>

#include "agent/datapath/abi.h"
#include "agent/datapath/bpf_load_balancer.h"
#include "agent/datapath/bpf_root.h"
#include "agent/datapath/bpf_socket_clients.h"
#include "agent/datapath/mapped_array.h"
#include "agent/datapath/sock_programs.h"
#include "test/kit/cgroup.h"
#include "test/kit/echo.h"
#include "test/kit/netns.h"

namespace fairlead::datapath {
namespace {

using testkit::ask;
using testkit::Client;
using testkit::EchoServer;
using testkit::Endpoint;
using testkit::PodNetns;

IpAddress ip(const char* text) {
  return IpAddress::parse(text).value();
}

std::uint64_t netns_cookie() {
  const UniqueFd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  std::uint64_t cookie = 0;
  socklen_t size = sizeof(cookie);
  EXPECT_EQ(getsockopt(fd.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size), 0);
  return cookie;
}

constexpr SockCapacities kSmall{.frontends = 256,
                                .services = 64,
                                .run_slots = 256,
                                .backends = 128,
                                .affinities = 256,
                                .clients = 16,
                                .spilled = 256};

// One agent's share of the data path.
struct Agent {
  std::unique_ptr<BpfRoot> root;
  std::unique_ptr<SockPrograms> programs;
  std::unique_ptr<BpfLoadBalancer> balancer;
  std::unique_ptr<BpfSocketClients> clients;

  static Result<Agent> open(const std::string& path, const std::string& cgroup, const SockCapacities& sizes = kSmall) {
    Agent agent;
    FL_LET(auto root, BpfRoot::open(path));
    agent.root = std::make_unique<BpfRoot>(std::move(root));
    FL_LET(agent.programs, SockPrograms::load(*agent.root, sizes));
    FL_LET(agent.balancer, BpfLoadBalancer::open(*agent.programs));
    FL_LET(agent.clients, BpfSocketClients::open(*agent.programs));
    FL_TRY(agent.programs->attach(cgroup));
    return agent;
  }
};

// A family of sockets, and the service that they name.
struct Kind {
  const char* name;
  Family socket;
  const char* service;
  const char* backend;
};
constexpr Kind kV4{"v4", Family::kV4, "10.96.0.1", "127.0.0.1"};
constexpr Kind kV6{"v6", Family::kV6, "fd00:96::1", "::1"};
constexpr Kind kMapped{"mapped", Family::kV6, "10.96.0.1", "127.0.0.1"};

class SockLbTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { ASSERT_TRUE(testkit::enter_node_namespace("sock-lb")); }

  void SetUp() override {
    const auto root = find_cgroup2_root();
    ASSERT_TRUE(root) << root.error().message();
    auto cgroup = testkit::TestCgroup::make(*root, "sock-lb");
    ASSERT_TRUE(cgroup) << cgroup.error().message();
    cgroup_.emplace(std::move(*cgroup));
    ASSERT_TRUE(cgroup_->enter());
    path_ = testkit::bpffs() + "/" + std::to_string(getpid()) + std::to_string(++roots_);
    ASSERT_NO_FATAL_FAILURE(open());
    ASSERT_TRUE(agent_.clients->admit(netns_cookie(), {ip("10.0.0.9"), ip("fd00::9")}));
  }
  void TearDown() override {
    agent_ = {};
    cgroup_.reset();
    const auto root = BpfRoot::open(path_);
    ASSERT_TRUE(root) << root.error().message();
    EXPECT_TRUE(root->clear());
    EXPECT_FALSE(std::filesystem::exists(path_));
  }

  void open() {
    agent_ = {};
    auto agent = Agent::open(path_, cgroup_->path());
    ASSERT_TRUE(agent) << agent.error().message();
    agent_ = std::move(*agent);
  }

  // `count` backends on loopback, called b0, b1, …
  std::vector<EchoServer> serve(const char* address, int count, const std::string& prefix = "b") {
    std::vector<EchoServer> servers;
    for (int i = 0; i < count; ++i) {
      auto server = EchoServer::start(ip(address), prefix + std::to_string(i));
      EXPECT_TRUE(server) << server.error().message();
      servers.push_back(std::move(*server));
    }
    return servers;
  }

  static ServiceEntry entry(const char* address, Protocol protocol, const std::vector<EchoServer>& servers,
                            std::uint16_t port = 80) {
    ServiceEntry entry{.frontends = {{ip(address), port, protocol}}, .backends = {}};
    for (const EchoServer& server : servers) {
      entry.backends.push_back({server.endpoint().address, server.endpoint().port});
    }
    std::ranges::sort(entry.backends);
    return entry;
  }

  void apply(const std::string& name, const ServiceEntry& service) {
    const auto applied = agent_.balancer->apply(name, service);
    ASSERT_TRUE(applied) << applied.error().message();
  }

  std::optional<testkit::TestCgroup> cgroup_;
  std::string path_;
  Agent agent_;
  static inline int roots_ = 0;
};

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
TEST_F(SockLbTest, AReaderOfTheMapsNeverSeesHalfASet) {
  ServiceEntry sets[2];
  for (std::uint16_t i = 0; i < 50; ++i) {
    sets[i % 2].backends.push_back({ip("127.0.0.1"), static_cast<std::uint16_t>(1000 + i)});
  }
  for (ServiceEntry& set : sets) set.frontends = {{ip(kV4.service), 80, Protocol::kTcp}};
  sets[1].backends.resize(20);
  apply("a", sets[0]);
  const auto array = [&]<class T>(const char* name, T) {
    const auto map = *Map<std::uint32_t, T>::open(agent_.root->map_path(name));
    return *MappedArray<T>::open(map.fd(), map.capacity(), name);
  };
  auto services = array("services", ::service{});
  const auto runs = array("runs", run_slot{});
  const auto backends = array("backends4", backend_v4{});
  std::atomic<bool> stop = false;
  std::atomic<int> changes = 0;
  std::atomic<int> judged = 0;
  int halves = 0;
  std::jthread reader([&] {
    std::atomic_ref run(services[1].run);
    while (!stop) {
      const int change = changes;
      const std::uint64_t seen = run.load();
      const auto base = static_cast<std::uint32_t>(seen);
      const auto count = static_cast<std::uint32_t>(seen >> 32);
      unsigned of_set[2] = {};
      bool whole = true;
      for (std::uint32_t i = base; i < base + count; ++i) {
        whole = whole && runs[i].tag == services[1].tag;
        ++of_set[ntohs(backends[runs[i].backend].port) % 2];
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

// What the kernel says of the pins: link and map ids.
std::map<std::string, std::uint32_t> pinned_ids(const std::string& root) {
  std::map<std::string, std::uint32_t> ids;
  for (const char* folder : {"maps", "links"}) {
    for (const auto& file : std::filesystem::directory_iterator(root + "/" + folder)) {
      const UniqueFd fd(bpf_obj_get(file.path().c_str()));
      std::uint32_t id = 0;
      if (std::string_view(folder) == "maps") {
        bpf_map_info info{};
        std::uint32_t size = sizeof(info);
        EXPECT_EQ(bpf_obj_get_info_by_fd(fd.get(), &info, &size), 0);
        EXPECT_NE(info.btf_id, 0) << file.path();
        id = info.id;
      } else {
        bpf_link_info info{};
        std::uint32_t size = sizeof(info);
        EXPECT_EQ(bpf_obj_get_info_by_fd(fd.get(), &info, &size), 0);
        id = info.id;
      }
      ids[file.path().string()] = id;
    }
  }
  return ids;
}

// All bytes of the arrays and hashes that say where connections go.
std::map<std::string, std::vector<std::uint8_t>> contents(const Agent& agent) {
  std::map<std::string, std::vector<std::uint8_t>> out;
  const auto read = [&]<class K, class V>(const char* name, K, V) {
    auto map = Map<K, V>::open(agent.root->map_path(name));
    auto& bytes = out[name];
    EXPECT_TRUE(map->for_each([&](const K& key, const V& value) {
      const auto* k = reinterpret_cast<const std::uint8_t*>(&key);
      const auto* v = reinterpret_cast<const std::uint8_t*>(&value);
      bytes.insert(bytes.end(), k, k + sizeof(key));
      bytes.insert(bytes.end(), v, v + sizeof(value));
    }));
  };
  read("svc4", frontend_v4{}, frontend{});
  read("svc6", frontend_v6{}, frontend{});
  read("services", std::uint32_t{}, ::service{});
  read("runs", std::uint32_t{}, run_slot{});
  read("backends4", std::uint32_t{}, backend_v4{});
  read("backends6", std::uint32_t{}, backend_v6{});
  return out;
}

TEST_F(SockLbTest, RestartChangesNothing) {
  const auto v4 = serve("127.0.0.1", 3);
  const auto v6 = serve("::1", 2);
  const ServiceEntry a = entry(kV4.service, Protocol::kTcp, v4);
  const ServiceEntry b = entry(kV6.service, Protocol::kTcp, v6);
  const ServiceEntry none = entry("10.96.0.7", Protocol::kTcp, {});
  apply("a", a);
  apply("b", b);
  apply("none", none);
  auto client = Client::make(Family::kV4, Protocol::kUdp);
  const auto ids = pinned_ids(path_);
  EXPECT_EQ(ids.size(), 12 + 9);
  const auto before = contents(agent_);

  agent_ = {};  // the programs go on without an agent
  EXPECT_TRUE(ask(Family::kV4, Protocol::kTcp, {ip(kV4.service), 80}));
  open();
  EXPECT_EQ(pinned_ids(path_), ids);
  EXPECT_THAT(agent_.clients->admitted().value(), testing::ElementsAre(netns_cookie()));
  apply("a", a);
  apply("b", b);
  apply("none", none);
  ASSERT_TRUE(agent_.balancer->remove_unclaimed());
  EXPECT_EQ(contents(agent_), before);
  EXPECT_EQ(agent_.balancer->audit().value(), std::set<std::string>{});

  // What is no longer wanted goes once all is known, and its elements serve again.
  open();
  apply("b", b);
  EXPECT_TRUE(ask(Family::kV4, Protocol::kTcp, {ip(kV4.service), 80})) << "unclaimed, not removed yet";
  ASSERT_TRUE(agent_.balancer->remove_unclaimed());
  EXPECT_EQ(Client::make(Family::kV4, Protocol::kTcp)->connect({ip(kV4.service), 80}).error().sys, ENETUNREACH);
  EXPECT_TRUE(ask(Family::kV6, Protocol::kTcp, {ip(kV6.service), 80}));
  ASSERT_TRUE(agent_.balancer->remove("b"));
  for (const MapUsage& usage : agent_.balancer->usage()) EXPECT_EQ(usage.used, 0) << usage.map;
}

// An agent that changes a service without end is killed again and again; each connection meanwhile is served.
TEST_F(SockLbTest, KilledAtAnyMomentNothingIsLost) {
  const auto even = serve("127.0.0.1", 3);
  const auto odd = serve("127.0.0.1", 2);
  const ServiceEntry sets[] = {entry(kV4.service, Protocol::kTcp, even), entry(kV4.service, Protocol::kTcp, odd)};
  apply("a", sets[0]);
  const auto ids = pinned_ids(path_);
  agent_ = {};
  std::atomic<bool> stop = false;
  std::vector<std::string> failures;
  int connections = 0;
  std::jthread client;
  for (unsigned round = 0; round < 25; ++round) {
    int progress[2];
    ASSERT_EQ(pipe(progress), 0);
    const pid_t child = fork();
    if (child == 0) {
      auto agent = Agent::open(path_, cgroup_->path());
      for (unsigned i = 0; agent && agent->balancer->apply("a", sets[i % 2]); ++i) {
        // A second service comes and goes, so that frontends do, too.
        if (i % 3 == 0) (void)agent->balancer->apply("b", entry("10.96.0.2", Protocol::kTcp, even));
        if (i % 3 == 1) (void)agent->balancer->remove("b");
        if (write(progress[1], ".", 1) != 1) break;
      }
      _exit(1);
    }
    close(progress[1]);
    if (round == 0) {
      client = std::jthread([&] {
        for (; !stop; ++connections) {
          const auto answer = ask(Family::kV4, Protocol::kTcp, {ip(kV4.service), 80});
          if (!answer) failures.push_back(answer.error().message());
        }
      });
    }
    char step;
    unsigned steps = 0;
    while (steps < 1 + round * 37 % 101 && read(progress[0], &step, 1) == 1) ++steps;
    EXPECT_EQ(steps, 1 + round * 37 % 101) << "the agent ended by itself in round " << round;
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
    close(progress[0]);
  }
  stop = true;
  client.join();
  EXPECT_GT(connections, 100);
  EXPECT_THAT(failures, testing::IsEmpty());

  open();
  EXPECT_EQ(pinned_ids(path_), ids);
  apply("a", sets[1]);
  ASSERT_TRUE(agent_.balancer->remove_unclaimed());
  EXPECT_EQ(agent_.balancer->audit().value(), std::set<std::string>{});
  EXPECT_EQ(agent_.balancer->usage()[2].used, 1);
}

// Halves of changes, as a crash at the worst moment leaves them.
TEST_F(SockLbTest, AdoptionSettlesWhatACrashLeft) {
  const auto servers = serve("127.0.0.1", 2);
  const ServiceEntry a = entry(kV4.service, Protocol::kTcp, servers);
  apply("a", a);
  auto services = *Map<std::uint32_t, ::service>::open(agent_.root->map_path("services"));
  auto backends = *Map<std::uint32_t, backend_v4>::open(agent_.root->map_path("backends4"));
  auto frontends = *Map<frontend_v4, frontend>::open(agent_.root->map_path("svc4"));
  agent_ = {};
  ::service orphan{};
  orphan.tag = 99;
  orphan.count = 7;
  ASSERT_TRUE(services.update(5, orphan));                        // no frontend leads there
  ASSERT_TRUE(backends.update(50, {0, 0, BACKEND_VALID, 5, 3}));  // in no run
  const frontend_v4 astray{ip("10.96.0.3").v4_be(), htons(80), 6, SCOPE_CLUSTER};
  ASSERT_TRUE(frontends.update(astray, {9, frontend_check_v4(&astray)}));  // leads to a free element
  const frontend_v4 torn{ip("10.96.0.4").v4_be(), htons(80), 6, SCOPE_CLUSTER};
  ASSERT_TRUE(frontends.update(torn, {1, 0}));  // is not its key's

  open();
  EXPECT_EQ(services.lookup(5).value()->tag, 0);
  EXPECT_EQ(backends.lookup(50).value()->state, BACKEND_GONE);
  apply("a", a);
  apply("b", entry("10.96.0.3", Protocol::kTcp, servers));
  EXPECT_TRUE(ask(Family::kV4, Protocol::kTcp, {ip("10.96.0.3"), 80}));
  ASSERT_TRUE(agent_.balancer->remove_unclaimed());
  EXPECT_EQ(frontends.count().value(), 2);
  EXPECT_EQ(agent_.balancer->audit().value(), std::set<std::string>{});
}

TEST_F(SockLbTest, AFrontendMayMoveToAnotherService) {
  const auto servers = serve("127.0.0.1", 2);
  const ServiceEntry first = entry(kV4.service, Protocol::kTcp, {});
  const ServiceEntry second = entry(kV4.service, Protocol::kTcp, servers);
  const auto works = [] { return ask(Family::kV4, Protocol::kTcp, {ip(kV4.service), 80}).has_value(); };
  apply("first", first);
  EXPECT_FALSE(works());
  apply("second", second);
  EXPECT_TRUE(works());
  ASSERT_TRUE(agent_.balancer->remove("first"));
  EXPECT_TRUE(works()) << "what is another's by now stays";
  apply("first", first);
  EXPECT_FALSE(works());
  apply("second", second);
  EXPECT_TRUE(works()) << "taken back";
}

TEST_F(SockLbTest, LinksFollowToAnotherCgroup) {
  const auto servers = serve("127.0.0.1", 1);
  apply("a", entry(kV4.service, Protocol::kTcp, servers));
  const auto ids = pinned_ids(path_);
  auto other = testkit::TestCgroup::make(*find_cgroup2_root(), "sock-lb-other");
  ASSERT_TRUE(other);
  agent_ = {};
  auto agent = Agent::open(path_, other->path());
  ASSERT_TRUE(agent) << agent.error().message();
  EXPECT_EQ(Client::make(Family::kV4, Protocol::kTcp)->connect({ip(kV4.service), 80}).error().sys, ENETUNREACH);
  ASSERT_TRUE(other->enter());
  EXPECT_TRUE(ask(Family::kV4, Protocol::kTcp, {ip(kV4.service), 80}));
  EXPECT_EQ(pinned_ids(path_).size(), ids.size());
}

TEST_F(SockLbTest, IdsAreUsedAgainWithoutEnd) {
  const auto servers = serve("127.0.0.1", 3);
  for (int i = 0; i < 500; ++i) {  // many times the maps' size
    const std::string name = "s" + std::to_string(i);
    apply(name, entry(kV4.service, Protocol::kTcp, servers));
    ASSERT_TRUE(agent_.balancer->remove("s" + std::to_string(i - 1)));
  }
  EXPECT_TRUE(ask(Family::kV4, Protocol::kTcp, {ip(kV4.service), 80}));
}

TEST_F(SockLbTest, FullMapsKeepTheOldSetWhole) {
  const auto servers = serve("127.0.0.1", 1);
  apply("a", entry(kV4.service, Protocol::kTcp, servers));
  ServiceEntry large = entry(kV4.service, Protocol::kTcp, servers);
  for (std::uint16_t i = 0; i < 200; ++i)
    large.backends.push_back({ip("127.0.0.2"), static_cast<std::uint16_t>(1000 + i)});
  std::ranges::sort(large.backends);
  const auto refused = agent_.balancer->apply("a", large);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kExhausted);
  EXPECT_THAT(refused.error().what, testing::HasSubstr("backends4"));

  ServiceEntry wide = entry(kV4.service, Protocol::kTcp, servers);
  for (std::uint16_t i = 0; i < 300; ++i)
    wide.frontends.push_back({ip("10.96.1.1"), static_cast<std::uint16_t>(i + 1), Protocol::kTcp});
  const auto full = agent_.balancer->apply("a", wide);
  ASSERT_FALSE(full);
  EXPECT_THAT(full.error().what, testing::HasSubstr("svc4"));
  for (int i = 0; i < 20; ++i) EXPECT_EQ(ask(Family::kV4, Protocol::kTcp, {ip(kV4.service), 80}).value(), "b0");
  EXPECT_EQ(agent_.balancer->audit().value(), std::set<std::string>{});
  EXPECT_EQ(agent_.balancer->usage()[0].used, 1);
}

TEST_F(SockLbTest, AuditFindsAndApplyRepairsWhatOthersWrote) {
  const auto servers = serve("127.0.0.1", 2);
  const ServiceEntry a = entry(kV4.service, Protocol::kTcp, servers);
  apply("a", a);
  apply("b", entry("10.96.0.2", Protocol::kTcp, servers));
  auto services = *Map<std::uint32_t, ::service>::open(agent_.root->map_path("services"));
  auto frontends = *Map<frontend_v4, frontend>::open(agent_.root->map_path("svc4"));
  ::service broken = *services.lookup(1).value();
  broken.count = 0;
  ASSERT_TRUE(services.update(1, broken));
  ASSERT_TRUE(frontends.update({ip("10.96.9.9").v4_be(), 1, 6, 0}, {1, 7}));
  EXPECT_EQ(agent_.balancer->audit().value(), std::set<std::string>{"a"});
  apply("a", a);
  EXPECT_TRUE(ask(Family::kV4, Protocol::kTcp, {ip(kV4.service), 80}));
  EXPECT_EQ(agent_.balancer->audit().value(), std::set<std::string>{});
  EXPECT_EQ(frontends.count().value(), 2);
}

TEST_F(SockLbTest, MapsOfAnotherLayoutAreRefused) {
  const std::string other = path_ + "-other";
  {
    auto root = BpfRoot::open(other);
    ASSERT_TRUE(root);
    const UniqueFd map(bpf_map_create(BPF_MAP_TYPE_HASH, "svc4", 8, 16, kSmall.frontends, nullptr));
    ASSERT_EQ(bpf_obj_pin(map.get(), root->map_path("svc4").c_str()), 0);
    const auto refused = SockPrograms::load(*root, kSmall);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Code::kConflict);
    EXPECT_THAT(refused.error().what, testing::AllOf(testing::HasSubstr("maps/svc4"), testing::HasSubstr("value size"),
                                                     testing::HasSubstr("cleanup")));
  }
  agent_ = {};
  SockCapacities larger = kSmall;
  larger.services = 128;
  const auto refused = Agent::open(path_, cgroup_->path(), larger);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().what,
              testing::AllOf(testing::HasSubstr("maps/services"), testing::HasSubstr("capacity")));
  std::filesystem::remove_all(other);
}

TEST_F(SockLbTest, RootsAreOneAgentsAndOnBpffs) {
  // A second process sees the first one's pid.
  const auto second = BpfRoot::open(path_);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, Code::kDenied);
  EXPECT_THAT(second.error().what, testing::HasSubstr(fmt::format("process {};", getpid())));
  const auto elsewhere = BpfRoot::open(testkit::folder() + "/nowhere/below");
  ASSERT_FALSE(elsewhere);
  EXPECT_EQ(elsewhere.error().code, Code::kInvalid);
  EXPECT_THAT(elsewhere.error().what,
              testing::AllOf(testing::HasSubstr("mount -t bpf"), testing::HasSubstr("--bpf-root")));
}

TEST_F(SockLbTest, TwoAgentsShareACgroup) {
  const auto mine = serve("127.0.0.1", 1, "mine");
  apply("a", entry(kV4.service, Protocol::kTcp, mine));
  const std::string path = path_ + "-second";
  auto second = Agent::open(path, cgroup_->path());
  ASSERT_TRUE(second) << second.error().message();
  ASSERT_TRUE(second->balancer->apply("a", entry(kV4.service, Protocol::kTcp, {})));
  const Endpoint service{ip(kV4.service), 80};
  const auto other = PodNetns::make("second");
  ASSERT_TRUE(other);
  other->run([&] {
    EXPECT_TRUE(second->clients->admit(netns_cookie(), {}));
    EXPECT_EQ(Client::make(Family::kV4, Protocol::kTcp)->connect(service).error().sys, ECONNREFUSED);
  });
  EXPECT_EQ(ask(Family::kV4, Protocol::kTcp, service).value(), "mine0");
  *second = {};
  std::filesystem::remove_all(path);
}

TEST_F(SockLbTest, TheVerifierIsNotOverworked) {
  const auto facts = agent_.programs->facts();
  ASSERT_TRUE(facts);
  EXPECT_EQ(facts->size(), 9);
  for (const ProgramFacts& program : *facts) {
    RecordProperty(program.name, std::to_string(program.verified_instructions));
    fmt::print("{:<14} {:>7} verified instructions\n", program.name, program.verified_instructions);
    EXPECT_LT(program.verified_instructions, 300'000) << program.name;
  }
}

}  // namespace
}  // namespace fairlead::datapath
