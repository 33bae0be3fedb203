// SPDX-License-Identifier: Apache-2.0
// Sockets of backends that are gone are ended, and no others: real sockets in namespaces of their own.
#include <gtest/gtest.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <optional>

#include "agent/base/loop_thread.h"
#include "agent/datapath/bpf_load_balancer.h"
#include "agent/datapath/bpf_socket_clients.h"
#include "agent/datapath/sock_programs.h"
#include "agent/datapath/socket_memories.h"
#include "agent/sockets/socket_ender.h"
#include "test/kit/cgroup.h"
#include "test/kit/echo.h"
#include "test/kit/netns.h"
#include "test/kit/process.h"

namespace fairlead::sockets {
namespace {

using datapath::Backend;
using datapath::ServiceEntry;
using testkit::Client;
using testkit::Endpoint;
using testkit::PodNetns;

constexpr datapath::SockCapacities kSmall{.frontends = 256,
                                          .services = 64,
                                          .run_slots = 256,
                                          .backends = 128,
                                          .affinities = 256,
                                          .clients = 256,
                                          .connected = 1024,
                                          .spilled = 256};

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

void set_loopback_up() {
  const UniqueFd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  request.ifr_name[0] = 'l';
  request.ifr_name[1] = 'o';
  request.ifr_flags = IFF_UP;
  EXPECT_EQ(ioctl(fd.get(), SIOCSIFFLAGS, &request), 0);
}

// The socket's pending error, which is taken with it; 0: none.
int error_of(const Client& client) {
  int error = 0;
  socklen_t size = sizeof(error);
  EXPECT_EQ(getsockopt(client.fd(), SOL_SOCKET, SO_ERROR, &error, &size), 0);
  return error;
}

bool has_error(const Client& client) {
  pollfd poll{client.fd(), 0, 0};
  return ::poll(&poll, 1, 0) == 1 && (poll.revents & POLLERR) != 0;
}

class SocketEndTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { ASSERT_TRUE(testkit::enter_node_namespace("socket-end")); }

  void SetUp() override {
    auto cgroup = testkit::TestCgroup::make(*datapath::find_cgroup2_root(), "socket-end");
    ASSERT_TRUE(cgroup) << cgroup.error().message();
    cgroup_.emplace(std::move(*cgroup));
    ASSERT_TRUE(cgroup_->enter());
    start();
    ASSERT_TRUE(clients_->admit(netns_cookie(), {}));
    node_ = {.cookie = netns_cookie(), .path = "/proc/self/ns/net"};
  }
  void TearDown() override {
    stop();
    cgroup_.reset();
    auto root = datapath::BpfRoot::open(path());
    ASSERT_TRUE(root && root->clear());
  }

  static std::string path() { return testkit::bpffs() + "/fairlead"; }

  // An agent's share; the namespaces are told by tell().
  void start() {
    root_.emplace(datapath::BpfRoot::open(path()).value());
    programs_ = datapath::SockPrograms::load(*root_, kSmall).value();
    auto [gone, gone_reader] = make_channel<datapath::BackendsGone>();
    balancer_ = datapath::BpfLoadBalancer::open(*programs_, gone).value();
    clients_ = datapath::BpfSocketClients::open(*programs_).value();
    ASSERT_TRUE(programs_->attach(cgroup_->path()));
    memories_ = datapath::SocketMemories::open(*programs_).value();
    registry_ = std::make_unique<metrics::Registry>();
    table_.emplace(std::vector<std::string>{"network"});
    thread_ = std::make_unique<LoopThread>("sockets");
    ender_ = std::make_unique<SocketEnder>(thread_->loop(), clock_,
                                           SocketEnder::Deps{.namespaces = table_->reader(),
                                                             .gone = std::move(gone_reader),
                                                             .memories = *memories_,
                                                             .registry = *registry_,
                                                             .retry = std::chrono::milliseconds(10),
                                                             .sweep = sweep_});
    thread_->start();
  }
  void stop() {
    if (thread_) thread_->join();
    ender_.reset();
    thread_.reset();
    table_.reset();
    memories_.reset();
    clients_.reset();
    balancer_.reset();
    programs_.reset();
    root_.reset();
  }

  void tell(const std::vector<model::ServedNetns>& namespaces) {
    std::vector<std::pair<std::string, std::shared_ptr<const model::ServedNetns>>> rows;
    for (const auto& row : namespaces) rows.emplace_back(row.path, std::make_shared<const model::ServedNetns>(row));
    table_->writer("network").replace(std::move(rows));
  }

  void apply(const std::string& name, const char* service, Protocol protocol, const std::vector<Backend>& backends,
             const std::vector<Backend>& draining = {}) {
    const auto applied = balancer_->apply(
        name, {.frontends = {{ip(service), 53, protocol}}, .backends = backends, .draining = draining});
    ASSERT_TRUE(applied) << applied.error().message();
  }

  static Client connected(Family family, Protocol protocol, const char* address, std::uint16_t port = 53) {
    auto client = Client::make(family, protocol).value();
    const auto done = client.connect({ip(address), port});
    EXPECT_TRUE(done) << done.error().message();
    return client;
  }

  prometheus::ClientMetric metric(const std::string& name) const {
    for (const auto& family : registry_->Collect()) {
      if (family.name == name) return family.metric[0];
    }
    ADD_FAILURE() << "no metric " << name;
    return {};
  }
  // Sockets of both protocols.
  double ended() const {
    double sum = 0;
    for (const auto& family : registry_->Collect()) {
      if (family.name != "fairlead_sockets_ended_total") continue;
      for (const auto& each : family.metric) sum += each.counter.value;
    }
    return sum;
  }

  Duration sweep_ = std::chrono::hours(1);
  SystemClock clock_;
  model::ServedNetns node_;
  std::optional<testkit::TestCgroup> cgroup_;
  std::optional<datapath::BpfRoot> root_;
  std::unique_ptr<datapath::SockPrograms> programs_;
  std::unique_ptr<datapath::BpfLoadBalancer> balancer_;
  std::unique_ptr<datapath::BpfSocketClients> clients_;
  std::unique_ptr<datapath::SocketMemories> memories_;
  std::unique_ptr<metrics::Registry> registry_;
  std::optional<state::Table<model::ServedNetns>> table_;
  std::unique_ptr<LoopThread> thread_;
  std::unique_ptr<SocketEnder> ender_;
};

const Backend kGone4{ip("127.0.0.1"), 5001}, kStays4{ip("127.0.0.1"), 5002};
const Backend kGone6{ip("::1"), 5001}, kStays6{ip("::1"), 5002};

TEST_F(SocketEndTest, ExactlyTheSocketsOfADeadBackendEnd) {
  tell({node_});
  apply("dns4", "10.96.0.1", Protocol::kUdp, {kGone4});
  apply("dns6", "fd00:96::1", Protocol::kUdp, {kGone6});
  apply("keeps4", "10.96.0.2", Protocol::kUdp, {kGone4});
  auto v4 = connected(Family::kV4, Protocol::kUdp, "10.96.0.1");
  auto mapped = connected(Family::kV6, Protocol::kUdp, "10.96.0.1");
  auto v6 = connected(Family::kV6, Protocol::kUdp, "fd00:96::1");
  auto by_another = connected(Family::kV4, Protocol::kUdp, "10.96.0.2");
  auto direct4 = connected(Family::kV4, Protocol::kUdp, "127.0.0.1", 5001);
  auto direct6 = connected(Family::kV6, Protocol::kUdp, "::1", 5001);
  auto moved = connected(Family::kV4, Protocol::kUdp, "10.96.0.1");
  ASSERT_TRUE(moved.connect({ip("127.0.0.1"), 5001}));  // the same place, but on its own account

  apply("dns4", "10.96.0.1", Protocol::kUdp, {kStays4});
  apply("dns6", "fd00:96::1", Protocol::kUdp, {kStays6});
  for (Client* client : {&v4, &mapped, &v6}) {
    EXPECT_TRUE(testkit::eventually([&] { return has_error(*client); }));
    EXPECT_EQ(error_of(*client), ECONNABORTED);
  }
  EXPECT_TRUE(testkit::eventually([&] { return ended() == 3; }));
  for (const Client* client : {&by_another, &direct4, &direct6, &moved}) EXPECT_EQ(error_of(*client), 0);
  // An ended socket may connect again, and has the new backend.
  ASSERT_TRUE(v4.connect({ip("10.96.0.1"), 53}));
  apply("dns4", "10.96.0.1", Protocol::kUdp, {kGone4});
  EXPECT_TRUE(testkit::eventually([&] { return has_error(v4); })) << "once more, though it was ended before";
  EXPECT_EQ(error_of(v4), ECONNABORTED);
  ASSERT_TRUE(v4.connect({ip("10.96.0.1"), 53}));
  EXPECT_TRUE(v4.send());
}

TEST_F(SocketEndTest, WhatStaysInTheSetGoesOnAndTcpDrains) {
  tell({node_});
  auto server = testkit::EchoServer::start(ip("127.0.0.1"), "server").value();
  const Backend live{server.endpoint().address, server.endpoint().port};
  apply("udp", "10.96.0.1", Protocol::kUdp, {live});
  apply("tcp", "10.96.0.1", Protocol::kTcp, {live});
  auto udp = connected(Family::kV4, Protocol::kUdp, "10.96.0.1");
  auto tcp = connected(Family::kV4, Protocol::kTcp, "10.96.0.1");
  apply("udp", "10.96.0.1", Protocol::kUdp, {kGone4, live});
  apply("tcp", "10.96.0.1", Protocol::kTcp, {kGone4}, {live});
  std::vector<Client> others;
  for (int i = 0; i < 40; ++i) others.push_back(connected(Family::kV4, Protocol::kUdp, "10.96.0.1"));
  apply("udp", "10.96.0.1", Protocol::kUdp, {live});
  EXPECT_TRUE(testkit::eventually([&] { return ended() > 0; }));
  EXPECT_EQ(error_of(udp), 0);
  ASSERT_TRUE(udp.send());
  EXPECT_EQ(udp.receive().value().first, "server");
  EXPECT_EQ(error_of(tcp), 0);
  apply("tcp", "10.96.0.1", Protocol::kTcp, {kGone4});
  EXPECT_TRUE(testkit::eventually([&] { return has_error(tcp); }));
  EXPECT_EQ(error_of(tcp), ECONNABORTED);
}

TEST_F(SocketEndTest, ARemovedServiceEndsItsSockets) {
  tell({node_});
  apply("dns", "10.96.0.1", Protocol::kUdp, {kGone4});
  const auto client = connected(Family::kV4, Protocol::kUdp, "10.96.0.1");
  ASSERT_TRUE(balancer_->remove("dns"));
  EXPECT_TRUE(testkit::eventually([&] { return has_error(client); }));
}

TEST_F(SocketEndTest, ManyBackendsAtOnce) {
  tell({node_});
  std::vector<Backend> backends;
  for (std::uint16_t port = 6000; port < 6100; ++port) backends.push_back({ip("127.0.0.1"), port});
  apply("dns", "10.96.0.1", Protocol::kUdp, backends);
  std::vector<Client> clients;
  for (int i = 0; i < 200; ++i) clients.push_back(connected(Family::kV4, Protocol::kUdp, "10.96.0.1"));
  apply("dns", "10.96.0.1", Protocol::kUdp, {backends.begin() + 20, backends.end()});
  apply("dns", "10.96.0.1", Protocol::kUdp, {});
  EXPECT_TRUE(testkit::eventually([&] { return ended() == 200; }));
  for (const Client& client : clients) EXPECT_EQ(error_of(client), ECONNABORTED);
}

// In a hundred namespaces, each with a socket to the backend that dies and one to the backend that stays.
TEST_F(SocketEndTest, InEveryNamespaceThatIsServed) {
  constexpr int kPods = 100;
  apply("dies", "10.96.0.1", Protocol::kUdp, {kGone4});
  apply("lives", "10.96.0.2", Protocol::kUdp, {kStays4});
  std::vector<PodNetns> pods;
  std::vector<Client> dying, living;
  std::vector<model::ServedNetns> served{node_};
  for (int i = 0; i < kPods; ++i) {
    pods.push_back(PodNetns::make(fmt::format("pod{}", i)).value());
    pods.back().run([&] {
      set_loopback_up();
      ASSERT_TRUE(clients_->admit(netns_cookie(), {}));
      served.push_back({.cookie = netns_cookie(), .path = pods.back().path()});
      dying.push_back(connected(Family::kV4, Protocol::kUdp, "10.96.0.1"));
      living.push_back(connected(Family::kV4, Protocol::kUdp, "10.96.0.2"));
    });
  }
  served.push_back({.cookie = 1, .path = testkit::folder() + "/gone.netns"});  // must keep no other waiting
  tell(served);
  apply("dies", "10.96.0.1", Protocol::kUdp, {});
  EXPECT_TRUE(testkit::eventually([&] { return ended() == kPods; }));
  // The look that found nothing, once the namespaces were told, and the one that ended them.
  EXPECT_TRUE(testkit::eventually([&] { return metric("fairlead_sockets_end_seconds").histogram.sample_count >= 2; }));
  const double took_ms = 1000 * metric("fairlead_sockets_end_seconds").histogram.sample_sum;
  RecordProperty("ended_ms", fmt::format("{:.1f}", took_ms));
  fmt::print("sockets in {} namespaces ended in {:.1f} ms\n", kPods, took_ms);
  for (const Client& client : dying) EXPECT_EQ(error_of(client), ECONNABORTED);
  for (const Client& client : living) EXPECT_EQ(error_of(client), 0);
}

TEST_F(SocketEndTest, AnAgentThatDiedInBetweenIsMadeUpFor) {
  tell({node_});
  apply("dns", "10.96.0.1", Protocol::kUdp, {kGone4});
  const auto dead = connected(Family::kV4, Protocol::kUdp, "10.96.0.1");
  apply("other", "10.96.0.2", Protocol::kUdp, {kGone4});
  const auto alive = connected(Family::kV4, Protocol::kUdp, "10.96.0.2");
  thread_->join();  // nobody ends anything any more
  apply("dns", "10.96.0.1", Protocol::kUdp, {kStays4});
  stop();
  EXPECT_FALSE(has_error(dead));
  start();
  tell({node_});
  EXPECT_TRUE(testkit::eventually([&] { return has_error(dead); }));
  EXPECT_EQ(error_of(alive), 0);
}

// A memory that outlived its socket goes; those of sockets that are there stay, whatever they do.
TEST_F(SocketEndTest, SweepsLeaveLivingSocketsAlone) {
  stop();
  sweep_ = std::chrono::milliseconds(5);
  start();
  tell({node_});
  auto server = testkit::EchoServer::start(ip("127.0.0.1"), "server").value();
  const Backend live{server.endpoint().address, server.endpoint().port};
  apply("udp", "10.96.0.1", Protocol::kUdp, {live});
  apply("tcp", "10.96.0.1", Protocol::kTcp, {live});
  std::vector<Client> clients;
  for (const Protocol protocol : {Protocol::kUdp, Protocol::kTcp}) {
    for (const Family family : {Family::kV4, Family::kV6}) clients.push_back(connected(family, protocol, "10.96.0.1"));
  }
  auto map = *datapath::Map<std::uint32_t, socket_memory>::open(root_->map_path("sk_memory"));
  const std::uint64_t nobody = (1ULL << 40) + 5;
  const socket_memory stale{
      .cookie = nobody, .netns = static_cast<std::uint32_t>(node_.cookie), .protocol = IPPROTO_UDP};
  const std::uint32_t home = nobody & (map.capacity() - 1);
  ASSERT_EQ(map.lookup(home).value()->cookie, 0U);
  ASSERT_TRUE(map.update(home, stale));
  EXPECT_TRUE(testkit::eventually([&] { return map.lookup(home).value()->cookie == 0; }));
  for (const Client& client : clients) {
    EXPECT_EQ(client.peer().value(), (Endpoint{ip("10.96.0.1"), 53}));
    EXPECT_EQ(error_of(client), 0);
  }
}

}  // namespace
}  // namespace fairlead::sockets
