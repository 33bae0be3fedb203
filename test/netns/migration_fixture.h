// SPDX-License-Identifier: Apache-2.0
// Two pods and a Service of one node whose maps are replaced by those of other sizes, and traffic meanwhile.
#pragma once

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cstring>
#include <functional>
#include <optional>
#include <thread>

#include "agent/base/socket_name.h"
#include "agent/datapath/bpf_load_balancer.h"
#include "agent/datapath/conntrack.h"
#include "agent/datapath/map.h"
#include "agent/datapath/migration.h"
#include "agent/datapath/sock_programs.h"
#include "bpf/abi/conntrack.h"
#include "test/kit/cgroup.h"
#include "test/kit/process.h"
#include "test/kit/traffic.h"
#include "test/netns/pod_network_fixture.h"

namespace fairlead::network {

using testkit::Endpoint;
using testkit::PodNetns;

constexpr std::uint16_t kPort = 80;
constexpr std::uint16_t kTarget = 8080;

inline IpAddress ip(const std::string& text) {
  return IpAddress::parse(text).value();
}

// Something that is done in a namespace over and over, each time to an end, and counted.
class Traffic {
 public:
  Traffic(const PodNetns& where, std::function<Result<>()> once)
      : thread_([this, &where, once = std::move(once)](const std::stop_token& stop) {
          where.run([&] {
            while (!stop.stop_requested()) {
              if (auto done = once(); !done) {
                ++failed_;
                if (failed_ == 1) first_ = done.error().message();
              }
              ++done_;
            }
          });
        }) {}
  std::uint64_t done() const { return done_; }
  void expect_none_failed() {
    thread_.request_stop();
    thread_.join();
    EXPECT_EQ(failed_, 0U) << "of " << done_ << ": " << first_;
  }

 private:
  std::atomic<std::uint64_t> done_ = 0;
  std::uint64_t failed_ = 0;  // the thread's until it is joined
  std::string first_;
  std::jthread thread_;
};

// One connected UDP socket: each datagram is another one, and its answer is waited for.
class Datagrams {
 public:
  static Datagrams make(const PodNetns& where, const Endpoint& to) {
    Datagrams out;
    where.run([&] { out.client_.emplace(testkit::Client::make(to.address.family(), Protocol::kUdp).value()); });
    EXPECT_TRUE(out.client_->connect(to));
    return out;
  }
  Result<> exchange() {
    const std::string sent = fmt::format("datagram {}", ++number_);
    if (send(client_->fd(), sent.data(), sent.size(), 0) != static_cast<ssize_t>(sent.size())) {
      return fail_errno(errno, "send " + sent);
    }
    std::array<char, 2048> got{};
    const ssize_t size = recv(client_->fd(), got.data(), got.size(), 0);
    if (size < 0) return fail_errno(errno, "answer to " + sent);
    const std::string_view answer(got.data(), static_cast<std::size_t>(size));
    return answer.ends_with(sent) ? Result<>() : fail(Code::kInvalid, "another answer than to {}", sent);
  }
  std::uint16_t port() const {
    SocketName own;
    EXPECT_EQ(getsockname(client_->fd(), own.get(), &own.size), 0);
    return socket_address(*own.get()).value_or(SocketAddress()).port;
  }

 private:
  std::optional<testkit::Client> client_;
  std::uint64_t number_ = 0;
};

class MigrationTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    ASSERT_TRUE(testkit::enter_node_namespace("migration"));
    auto socket = netlink::Socket::open().value();
    const std::uint32_t loopback = socket.find_link("lo").value().ifindex;
    for (const char* address : {"10.0.0.1", "fd00:ffff::1"}) ASSERT_TRUE(socket.add_address(loopback, ip(address)));
  }

  void SetUp() override {
    // The hooks of sockets: nobody of this test is in there, so all that they send is translated per packet.
    cgroup_.emplace(testkit::TestCgroup::make(*datapath::find_cgroup2_root(), "migration").value());
    start();
    a_.emplace(attach_pod("a"));
    b_.emplace(attach_pod("b"));
    b_->netns.run([&] { server_.emplace(testkit::Observer::start(kTarget).value()); });
    for (std::size_t family = 0; family < 2; ++family) {
      for (const Protocol protocol : {Protocol::kTcp, Protocol::kUdp}) {
        serve(kService[family], protocol, {{b_->addresses[family], kTarget}});
      }
    }
  }
  void TearDown() override {
    server_.reset();
    for (const char* name : {"a", "b"}) run_plugin("DEL", name, "");
    stop();
    a_.reset();
    b_.reset();
    cgroup_.reset();
    auto root = datapath::BpfRoot::open(path());
    ASSERT_TRUE(root && root->clear());
  }

  static std::string path() { return testkit::bpffs() + "/fairlead"; }

  // An agent's share, over what is pinned.
  void start() {
    node_ = std::make_unique<Node>("10.1.0.0/24,fd00:1::/64", sockets_);
    ASSERT_TRUE(node_->started) << node_->started.error().message();
    sock_ = datapath::SockPrograms::load(node_->root(), services_).value();
    balancer_ = datapath::BpfLoadBalancer::open(*sock_).value();
  }
  void stop() {
    balancer_.reset();
    sock_.reset();
    node_.reset();
  }

  void serve(const IpAddress& address, Protocol protocol, const std::vector<datapath::Backend>& backends) {
    datapath::ServiceEntry entry;
    entry.frontends = {{address, kPort, protocol}};
    entry.backends = backends;
    const auto applied = balancer_->apply(fmt::format("{}/{}", address, static_cast<int>(protocol)), entry);
    ASSERT_TRUE(applied) << applied.error().message();
  }

  // What an agent does at start that wants these sizes, and then is.
  void restart(const datapath::PodCapacities& wanted) {
    stop();
    {
      const auto root = datapath::BpfRoot::open(path()).value();
      const auto migrated = datapath::migrate_maps(root, cgroup_->path(), wanted);
      ASSERT_TRUE(migrated) << migrated.error().message();
    }
    services_ = wanted.services;
    start();
  }

  std::map<std::string, std::uint64_t> dropped() const {
    std::map<std::string, std::uint64_t> out;
    const auto counters = node_->programs->counters().value();
    for (const auto& counter : counters) {
      if (counter.reason != "forwarded" && counter.packets != 0) out[counter.reason] = counter.packets;
    }
    return out;
  }

  std::optional<datapath::Connection> connection_of(std::uint16_t client_port) const {
    const auto table = datapath::Conntrack::open(*node_->programs).value();
    std::optional<datapath::Connection> found;
    EXPECT_TRUE(table->walk(0, [&](const datapath::Connection& connection) {
      if (connection.client.port == client_port) found = connection;
      return !found;
    }));
    return found;
  }

  std::uint32_t capacity(const char* map) const {
    const UniqueFd fd(bpf_obj_get(node_->root().map_path(map).c_str()));
    bpf_map_info info{};
    std::uint32_t size = sizeof(info);
    EXPECT_EQ(bpf_obj_get_info_by_fd(fd.get(), &info, &size), 0) << map;
    return info.max_entries;
  }

  // Long and short connections of both protocols and families, while `meanwhile` goes on; none of them fails.
  void under_traffic(const std::function<void()>& meanwhile) {
    std::vector<Datagrams> datagrams;
    std::vector<testkit::Stream> streams;
    for (const IpAddress& service : kService) {
      datagrams.push_back(Datagrams::make(a_->netns, {service, kPort}));
      a_->netns.run([&] { streams.push_back(testkit::Stream::connect({service, kPort}).value()); });
    }
    ASSERT_TRUE(datagrams[0].exchange());
    const auto before = connection_of(datagrams[0].port());
    const auto drops = dropped();
    std::vector<std::unique_ptr<Traffic>> all;
    const auto add = [&](std::function<Result<>()> once) {
      all.push_back(std::make_unique<Traffic>(a_->netns, std::move(once)));
    };
    for (std::size_t family = 0; family < 2; ++family) {
      add([&, family] { return datagrams[family].exchange(); });
      add([&, family] { return streams[family].exchange(3000); });
      add([&, family]() -> Result<> {
        FL_LET(const Endpoint seen, testkit::ask_datagram({kService[family], kPort}, 100, 1));
        return seen.address == a_->addresses[family] ? Result<>() : fail(Code::kInvalid, "seen as {}", seen.address);
      });
      add([&, family]() -> Result<> {
        FL_LET(auto stream, testkit::Stream::connect({kService[family], kPort}));
        return stream.exchange(100);
      });
    }
    const auto let_pass = [&](std::uint64_t more) {
      std::vector<std::uint64_t> until;
      for (const auto& each : all) until.push_back(each->done() + more);
      EXPECT_TRUE(testkit::eventually([&] {
        return std::ranges::equal(all, until, [](const auto& each, std::uint64_t n) { return each->done() >= n; });
      }));
    };
    let_pass(20);
    meanwhile();
    let_pass(20);
    for (const auto& each : all) each->expect_none_failed();
    EXPECT_EQ(dropped(), drops);
    ASSERT_TRUE(before);
    const auto after = connection_of(datagrams[0].port());
    ASSERT_TRUE(after);
    EXPECT_TRUE(after->translated && after->answered);
    EXPECT_EQ(after->to.address, before->to.address);
    EXPECT_GE(after->age, before->age);
  }

  // An agent starts meanwhile that wants these sizes.
  void restart_under_traffic(const datapath::PodCapacities& wanted) {
    under_traffic([&] { restart(wanted); });
  }

  static inline const std::vector<IpAddress> kService{ip("10.96.0.10"), ip("fd00:96::10")};
  FakeSocketClients sockets_;
  datapath::SockCapacities services_;
  std::optional<testkit::TestCgroup> cgroup_;
  std::unique_ptr<Node> node_;
  std::unique_ptr<datapath::SockPrograms> sock_;
  std::unique_ptr<datapath::BpfLoadBalancer> balancer_;
  std::optional<AttachedPod> a_;
  std::optional<AttachedPod> b_;
  std::optional<testkit::Observer> server_;
};

}  // namespace fairlead::network
