// SPDX-License-Identifier: Apache-2.0
// What the socket load balancer keeps in the kernel: over restarts and crashes, when maps are full, beside other
// agents.
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <gmock/gmock.h>
#include <sys/wait.h>

#include <atomic>
#include <csignal>
#include <map>
#include <set>
#include <thread>

#include "agent/datapath/abi.h"
#include "test/netns/sock_lb_fixture.h"

namespace fairlead::datapath {
namespace {

using testkit::ask;
using testkit::Client;
using testkit::EchoServer;
using testkit::Endpoint;
using testkit::PodNetns;

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
  // Without what the programs count.
  auto& services = out["services"];
  for (std::size_t at = sizeof(std::uint32_t); at < services.size(); at += sizeof(std::uint32_t) + sizeof(::service)) {
    std::fill_n(&services[at + offsetof(::service, turn)], sizeof(::service::turn), 0);
    std::fill_n(&services[at + offsetof(::service, hits)], sizeof(::service::hits), 0);
  }
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
  EXPECT_EQ(ids.size(), 14 + 9);
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

// The key that a frontend of kV4's service has.
const frontend_v4 kKey4{ip(kV4.service).v4_be(), htons(80), IPPROTO_TCP, SCOPE_CLUSTER};

// Halves of changes, as a crash at the worst moment leaves them.
TEST_F(SockLbTest, AdoptionSettlesWhatACrashLeft) {
  const auto servers = serve("127.0.0.1", 2);
  const ServiceEntry a = entry(kV4.service, Protocol::kTcp, servers);
  apply("a", a);
  auto services = *Map<std::uint32_t, ::service>::open(agent_.root->map_path("services"));
  auto backends = *Map<std::uint32_t, backend_v4>::open(agent_.root->map_path("backends4"));
  auto frontends = *Map<frontend_v4, frontend>::open(agent_.root->map_path("svc4"));
  const std::uint32_t of_a = frontends.lookup(kKey4).value()->service;
  const std::uint32_t free = of_a == 5 ? 6 : 5;
  agent_ = {};
  ::service orphan = *services.lookup(of_a).value();
  orphan.address.words[3] = ip("10.96.0.5").v4_be();
  orphan.tag = 99;
  orphan.count = 7;
  ASSERT_TRUE(services.update(free, orphan));                        // no frontend leads there
  ASSERT_TRUE(backends.update(50, {0, 0, BACKEND_VALID, free, 3}));  // in no run
  const frontend_v4 astray{ip("10.96.0.3").v4_be(), htons(80), 6, SCOPE_CLUSTER};
  ASSERT_TRUE(frontends.update(astray, {9, frontend_check_v4(&astray)}));  // leads to a free element
  const frontend_v4 torn{ip("10.96.0.4").v4_be(), htons(80), 6, SCOPE_CLUSTER};
  ASSERT_TRUE(frontends.update(torn, {1, 0}));  // is not its key's

  open();
  EXPECT_EQ(services.lookup(free).value()->tag, 0);
  EXPECT_EQ(services.lookup(free).value()->at, 0U);
  EXPECT_EQ(backends.lookup(50).value()->state, BACKEND_GONE);
  apply("a", a);
  apply("b", entry("10.96.0.3", Protocol::kTcp, servers));
  EXPECT_TRUE(ask(Family::kV4, Protocol::kTcp, {ip("10.96.0.3"), 80}));
  ASSERT_TRUE(agent_.balancer->remove_unclaimed());
  EXPECT_EQ(frontends.count().value(), 2 * 2) << "each with its address";
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
  EXPECT_EQ(agent_.balancer->usage()[0].used, 2) << "the frontend, and its address";
}

TEST_F(SockLbTest, AuditFindsAndApplyRepairsWhatOthersWrote) {
  const auto servers = serve("127.0.0.1", 2);
  const ServiceEntry a = entry(kV4.service, Protocol::kTcp, servers);
  apply("a", a);
  apply("b", entry("10.96.0.2", Protocol::kTcp, servers));
  auto services = *Map<std::uint32_t, ::service>::open(agent_.root->map_path("services"));
  auto frontends = *Map<frontend_v4, frontend>::open(agent_.root->map_path("svc4"));
  const std::uint32_t of_a = frontends.lookup(kKey4).value()->service;
  ::service broken = *services.lookup(of_a).value();
  broken.count = 0;
  ASSERT_TRUE(services.update(of_a, broken));
  ASSERT_TRUE(frontends.update({ip("10.96.9.9").v4_be(), 1, 6, 0}, {1, 7}));
  EXPECT_EQ(agent_.balancer->audit().value(), std::set<std::string>{"a"});
  apply("a", a);
  EXPECT_TRUE(ask(Family::kV4, Protocol::kTcp, {ip(kV4.service), 80}));
  EXPECT_EQ(agent_.balancer->audit().value(), std::set<std::string>{});
  EXPECT_EQ(frontends.count().value(), 2 * 2) << "each with its address";
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
