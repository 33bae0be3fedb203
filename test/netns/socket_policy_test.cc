// SPDX-License-Identifier: Apache-2.0
// The socket balancer is no way around egress policy: it translates before a packet is made, and the backend's policy
// is judged on the packet all the same, when a socket is new and when rules change under it.
#include <netinet/in.h>
#include <sys/socket.h>

#include "test/netns/policy_agents.h"

namespace fairlead {
namespace {

using namespace std::chrono_literals;
using testkit::Datagrams;
using testkit::Endpoint;
using testkit::eventually;
using testkit::kPodPort;
using testkit::Stream;

constexpr std::uint16_t kPort = 80;

class SocketPolicy : public PolicyAgents {
 protected:
  // The client, and for each Service one backend: on its own node, and on the other one.
  static void SetUpTestSuite() {
    PolicyAgents::SetUpTestSuite();
    ASSERT_NE(bed, nullptr);
    add_pod(1, "default/client", {{"app", "client"}});
    for (const auto& [node, name] : {std::pair{1U, "local"}, {2U, "remote"}}) {
      add_pod(node, fmt::format("default/{}", name), {{"app", name}});
      const auto added = bed->add_service(name, addresses(name), kPort, {fmt::format("default/{}", name)});
      ASSERT_TRUE(added) << why(added);
    }
    for (const char* name : kBackends) {
      for (const Family family : kFamilies) {
        ASSERT_TRUE(eventually([&] { return new_datagrams(name, family, Datagrams::Way::kConnected).answered(); }))
            << name;
      }
    }
  }
  void SetUp() override {
    PolicyAgents::SetUp();
    allow("local, remote");
    for (const char* name : kBackends) ASSERT_TRUE(says(name, true));
  }

  static std::vector<IpAddress> addresses(const std::string& name) {
    const int last = name == std::string("local") ? 1 : 2;
    return {IpAddress::parse(fmt::format("10.96.1.{}", last)).value(),
            IpAddress::parse(fmt::format("fd00:96::a{}", last)).value()};
  }
  static Endpoint service(const std::string& name, Family family) {
    return {addresses(name)[family == Family::kV4 ? 0 : 1], kPort};
  }
  // The client may reach pods whose app is one of `apps`, which are separated by commas.
  void allow(const std::string& apps) {
    apply("default/client",
          fmt::format(R"({{podSelector: {{matchLabels: {{app: client}}}}, policyTypes: [Egress], egress: [{{to: [
            {{podSelector: {{matchExpressions: [{{key: app, operator: In, values: [{}]}}]}}}}]}}]}})",
                      apps));
  }
  static bool says(const std::string& name, bool allowed) {
    return bed->says("default/client", "default/" + name, "8080/TCP", allowed);
  }
  static std::uint64_t denied() { return bed->drops(1, "policy_egress"); }

  static Datagrams new_datagrams(const std::string& name, Family family, Datagrams::Way way) {
    return Datagrams::make(bed->pod("default/client").netns(), service(name, family), way).value();
  }
  static Result<Stream> connect(const std::string& name, Family family, std::chrono::seconds patience) {
    return in(bed->pod("default/client").netns(), [&] { return Stream::connect(service(name, family), 0, patience); });
  }

  // All that a client can have open towards a Service.
  struct Sockets {
    std::string name;
    Family family;
    Stream stream;
    Datagrams connected;
    Datagrams unconnected;
  };
  static std::optional<Sockets> open(const std::string& name, Family family) {
    auto stream = connect(name, family, 2s);
    EXPECT_TRUE(stream) << name << ": " << why(stream);
    if (!stream) return std::nullopt;
    return Sockets{name, family, std::move(*stream), new_datagrams(name, family, Datagrams::Way::kConnected),
                   new_datagrams(name, family, Datagrams::Way::kSendTo)};
  }
  static void expect_works(Sockets& sockets) {
    EXPECT_TRUE(sockets.connected.answered(5s)) << sockets.name << ": connected UDP";
    EXPECT_TRUE(sockets.unconnected.answered(5s)) << sockets.name << ": sendto";
    const auto exchanged = sockets.stream.exchange(1000);
    EXPECT_TRUE(exchanged) << sockets.name << ": TCP " << why(exchanged);
  }
  static void expect_denied(Sockets& sockets) {
    std::uint64_t before = denied();
    const auto counted = [&] { return std::exchange(before, denied()) < denied(); };
    EXPECT_FALSE(sockets.connected.answered()) << sockets.name << ": connected UDP";
    EXPECT_TRUE(counted()) << sockets.name;
    EXPECT_FALSE(sockets.unconnected.answered()) << sockets.name << ": sendto";
    EXPECT_TRUE(counted()) << sockets.name;
    EXPECT_FALSE(sockets.stream.exchange(1)) << sockets.name << ": TCP";
    EXPECT_TRUE(counted()) << sockets.name;
  }

  static constexpr const char* kBackends[] = {"local", "remote"};
};

TEST_F(SocketPolicy, TheHooksTranslateSoThatPacketsNameTheBackend) {
  for (const char* name : kBackends) {
    for (const Family family : kFamilies) {
      auto sockets = open(name, family);
      ASSERT_TRUE(sockets);
      expect_works(*sockets);
    }
  }
  const Json list = bed->node(1).ctl("conntrack list --pod default/client");
  std::size_t to_backends = 0;
  for (const Json& each : list) {
    EXPECT_FALSE(each.contains("to")) << "translated packet by packet: " << each;
    for (const char* name : kBackends) {
      for (const Family family : kFamilies) {
        if (each["server"]["address"] == bed->pod(fmt::format("default/{}", name)).address(family).str()) ++to_backends;
      }
    }
  }
  EXPECT_GE(to_backends, 12U) << list;
}

TEST_F(SocketPolicy, ANewSocketReachesNoBackendThatPolicyDenies) {
  for (const char* name : kBackends) {
    const std::string other = name == std::string("local") ? "remote" : "local";
    allow(other);
    ASSERT_TRUE(says(name, false));
    for (const Family family : kFamilies) {
      for (const auto way : {Datagrams::Way::kConnected, Datagrams::Way::kSendTo}) {
        const std::uint64_t before = denied();
        EXPECT_FALSE(new_datagrams(name, family, way).answered()) << name;
        EXPECT_EQ(denied(), before + 1);
      }
      const std::uint64_t before = denied();
      EXPECT_FALSE(connect(name, family, 1s)) << name;
      EXPECT_GT(denied(), before);
      auto sockets = open(other, family);
      ASSERT_TRUE(sockets);
      expect_works(*sockets);
    }
  }
}

TEST_F(SocketPolicy, AnOpenSocketIsJudgedAgainWhenItsPolicyChanges) {
  for (const char* name : kBackends) {
    allow("local, remote");
    ASSERT_TRUE(says(name, true));
    std::vector<Sockets> all;
    for (const Family family : kFamilies) {
      auto sockets = open(name, family);
      ASSERT_TRUE(sockets);
      expect_works(*sockets);
      all.push_back(std::move(*sockets));
    }
    allow("nobody");
    ASSERT_TRUE(says(name, false));
    for (Sockets& sockets : all) expect_denied(sockets);
    // The other way round: allowed again, what was open goes on.
    allow("local, remote");
    ASSERT_TRUE(says(name, true));
    for (Sockets& sockets : all) {
      EXPECT_TRUE(sockets.connected.answered(5s)) << name;
      EXPECT_TRUE(sockets.unconnected.answered(5s)) << name;
    }
  }
}

}  // namespace
}  // namespace fairlead
