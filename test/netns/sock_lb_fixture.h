// SPDX-License-Identifier: Apache-2.0
// The socket load balancer in a cgroup of the test's own, with echo servers on loopback to point it at.
#pragma once

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/unique_fd.h"
#include "agent/datapath/bpf_load_balancer.h"
#include "agent/datapath/bpf_root.h"
#include "agent/datapath/bpf_socket_clients.h"
#include "agent/datapath/sock_programs.h"
#include "test/kit/cgroup.h"
#include "test/kit/echo.h"
#include "test/kit/netns.h"

namespace fairlead::datapath {

inline IpAddress ip(const char* text) {
  return IpAddress::parse(text).value();
}

inline std::uint64_t netns_cookie() {
  const UniqueFd fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  std::uint64_t cookie = 0;
  socklen_t size = sizeof(cookie);
  EXPECT_EQ(getsockopt(fd.get(), SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size), 0);
  return cookie;
}

inline constexpr SockCapacities kSmall{.frontends = 256,
                                       .services = 64,
                                       .run_slots = 2048,
                                       .backends = 128,
                                       .affinities = 256,
                                       .clients = 16,
                                       .connected = 1024,
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
inline constexpr Kind kV4{"v4", Family::kV4, "10.96.0.1", "127.0.0.1"};
inline constexpr Kind kV6{"v6", Family::kV6, "fd00:96::1", "::1"};
inline constexpr Kind kMapped{"mapped", Family::kV6, "10.96.0.1", "127.0.0.1"};

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
  std::vector<testkit::EchoServer> serve(const char* address, int count, const std::string& prefix = "b") {
    std::vector<testkit::EchoServer> servers;
    for (int i = 0; i < count; ++i) {
      auto server = testkit::EchoServer::start(ip(address), prefix + std::to_string(i));
      EXPECT_TRUE(server) << server.error().message();
      servers.push_back(std::move(*server));
    }
    return servers;
  }

  static ServiceEntry entry(const char* address, Protocol protocol, const std::vector<testkit::EchoServer>& servers,
                            std::uint16_t port = 80) {
    ServiceEntry entry{.frontends = {{ip(address), port, protocol}}, .backends = {}};
    for (const testkit::EchoServer& server : servers) {
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

}  // namespace fairlead::datapath
