// SPDX-License-Identifier: Apache-2.0
// Connections of real sockets as the agent lists and ends them, drops as it tells them, and what a restart of the agent
// does to either: nothing.
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <atomic>
#include <cstring>

#include "agent/base/loop_thread.h"
#include "agent/datapath/bpf_load_balancer.h"
#include "agent/datapath/conntrack.h"
#include "agent/datapath/drop_events.h"
#include "agent/datapath/sock_programs.h"
#include "agent/flows/flows.h"
#include "bpf/abi/conntrack.h"
#include "test/kit/process.h"
#include "test/netns/pod_network_fixture.h"

namespace fairlead::network {
namespace {

using testkit::PodNetns;

constexpr std::uint16_t kPort = 53;
constexpr std::uint16_t kTarget = 5353;
constexpr auto kService = "10.96.0.10";
constexpr auto kEmpty = "10.96.0.11";  // a Service without backends

sockaddr_in to_sockaddr(const IpAddress& address, std::uint16_t port) {
  sockaddr_in out{};
  out.sin_family = AF_INET;
  out.sin_port = htons(port);
  out.sin_addr.s_addr = address.v4_be();
  return out;
}

UniqueFd udp_socket(const PodNetns& where, const IpAddress& own, std::uint16_t port) {
  UniqueFd fd;
  where.run([&] { fd = UniqueFd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0)); });
  const timeval patience{3, 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  const sockaddr_in address = to_sockaddr(own, port);
  EXPECT_EQ(bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0) << strerror(errno);
  return fd;
}

bool send_number(const UniqueFd& fd, const sockaddr_in& to, std::uint32_t number) {
  return sendto(fd.get(), &number, sizeof(number), 0, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) ==
         sizeof(number);
}

// The number and where it came from; nothing after 3 s.
std::optional<std::pair<std::uint32_t, sockaddr_in>> receive_number(const UniqueFd& fd) {
  std::uint32_t number = 0;
  sockaddr_in from{};
  socklen_t size = sizeof(from);
  if (recvfrom(fd.get(), &number, sizeof(number), 0, reinterpret_cast<sockaddr*>(&from), &size) != sizeof(number)) {
    return std::nullopt;
  }
  return std::pair{number, from};
}

// All that an agent holds of the data path, and its flows domain.
struct Agent {
  std::unique_ptr<Node> node;
  std::unique_ptr<datapath::SockPrograms> sock;
  std::unique_ptr<datapath::BpfLoadBalancer> balancer;
  std::unique_ptr<datapath::Conntrack> conntrack;
  std::unique_ptr<datapath::DropEvents> drops;
  SystemClock clock;
  prometheus::Registry registry;
  LoopThread thread{"flows"};
  Responder<Inspect, Json> services;
  std::unique_ptr<flows::Flows> flows;
  Caller<Inspect, Json> caller;

  explicit Agent(FakeSocketClients& sockets) {
    node = std::make_unique<Node>("10.1.0.0/24", sockets);
    EXPECT_TRUE(node->started) << node->started.error().message();
    sock = datapath::SockPrograms::load(node->root(), {}).value();  // attached nowhere: packets are what is balanced
    balancer = datapath::BpfLoadBalancer::open(*sock).value();
    for (const char* address : {kService, kEmpty}) {
      datapath::ServiceEntry entry;
      entry.frontends = {{IpAddress::parse(address).value(), kPort, Protocol::kUdp}};
      if (address == kService) entry.backends = {{IpAddress::parse("10.1.0.3").value(), kTarget}};
      EXPECT_TRUE(balancer->apply(address, entry));
    }
    conntrack = datapath::Conntrack::open(*node->programs).value();
    drops = datapath::DropEvents::open(*node->programs).value();
    auto [names, names_end] = make_request<Inspect, Json>();
    services = std::move(names_end);
    services.attach(thread.loop(), [](const Inspect&, Reply<Json> reply) {
      reply(Json::array({{{"namespace", "default"},
                          {"name", "dns"},
                          {"cluster_ips", {kService}},
                          {"ports", {{{"port", kPort}, {"protocol", "UDP"}}}}}}));
    });
    auto [to_flows, responder] = make_request<Inspect, Json>();
    caller = to_flows;
    flows = std::make_unique<flows::Flows>(thread.loop(), clock,
                                           flows::Flows::Deps{.conntrack = *conntrack,
                                                              .drops = *drops,
                                                              .namespaces = node->namespaces.reader(),
                                                              .services = names,
                                                              .inspect = std::move(responder),
                                                              .registry = registry,
                                                              .count_period = std::chrono::milliseconds(100),
                                                              .patience = std::chrono::milliseconds(200)});
    flows->start();
    thread.start();
  }
  ~Agent() { thread.join(); }

  Json ask(const std::string& op, Json args = Json::object()) {
    const auto answer = caller.call_sync({op, std::move(args)}, std::chrono::seconds(10));
    EXPECT_TRUE(answer) << answer.error().message();
    return answer.value_or(Json::object());
  }
  Json list(Json args = Json::object()) { return ask("conntrack.list", std::move(args))["items"]; }
  std::uint64_t created() const { return conntrack->usage().value().counters.at("created_v4"); }
};

class FlowsTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    ASSERT_TRUE(testkit::enter_node_namespace("flows"));
    auto socket = netlink::Socket::open().value();
    const std::uint32_t loopback = socket.find_link("lo").value().ifindex;
    ASSERT_TRUE(socket.add_address(loopback, IpAddress::parse("10.0.0.1").value()));
    agent_ = std::make_unique<Agent>(sockets_);
    a_.emplace(add_pod("a"));
    b_.emplace(add_pod("b"));
  }
  static void TearDownTestSuite() {
    agent_.reset();
    a_.reset();
    b_.reset();
  }
  void SetUp() override { agent_->ask("conntrack.flush"); }

  static PodNetns add_pod(const std::string& name) {
    PodNetns netns = PodNetns::make(name).value();
    const PluginResult added = run_plugin("ADD", name, netns.path());
    EXPECT_EQ(added.exit_code, 0) << added.output;
    addresses_.push_back(Cidr::parse(added.output["ips"][0]["address"].get<std::string>()).value().base());
    return netns;
  }

  static inline FakeSocketClients sockets_;
  static inline std::unique_ptr<Agent> agent_;
  static inline std::optional<PodNetns> a_, b_;
  static inline std::vector<IpAddress> addresses_;  // of a, of b
  const sockaddr_in service_ = to_sockaddr(IpAddress::parse(kService).value(), kPort);
};

TEST_F(FlowsTest, ConnectionsAreListedFilteredAndEnded) {
  ASSERT_EQ(addresses_[1].str(), "10.1.0.3");
  const UniqueFd client = udp_socket(*a_, addresses_[0], 40'000);
  const UniqueFd server = udp_socket(*b_, addresses_[1], kTarget);
  ASSERT_TRUE(send_number(client, service_, 1));
  const auto asked = receive_number(server);
  ASSERT_TRUE(asked);
  const Json first = agent_->list();
  ASSERT_EQ(first.size(), 1) << first;
  EXPECT_EQ(first[0]["state"], "UNREPLIED");
  EXPECT_EQ(first[0]["replied"], false);
  ASSERT_TRUE(send_number(server, asked->second, 2));
  ASSERT_TRUE(receive_number(client));
  const Json all = agent_->list();
  ASSERT_EQ(all.size(), 1) << all;
  EXPECT_EQ(all[0]["state"], "STREAM");
  EXPECT_EQ(all[0]["protocol"], "UDP");
  EXPECT_EQ(all[0]["client"], (Json{{"address", addresses_[0].str()}, {"port", 40'000}}));
  EXPECT_EQ(all[0]["server"], (Json{{"address", kService}, {"port", kPort}}));
  EXPECT_EQ(all[0]["to"], (Json{{"address", "10.1.0.3"}, {"port", kTarget}}));
  EXPECT_EQ(all[0]["service"], "default/dns");
  EXPECT_NE(all[0]["client_pod"], "");
  EXPECT_NE(all[0]["client_pod"], all[0]["server_pod"]);
  EXPECT_NEAR(all[0]["expires_in_seconds"].get<int>(), 120, 2);

  const std::string pod = all[0]["client_pod"];
  for (const auto& [name, value] : std::vector<std::pair<std::string, std::string>>{{"family", "4"},
                                                                                    {"protocol", "udp"},
                                                                                    {"address", "10.96.0.0/16"},
                                                                                    {"port", "5353"},
                                                                                    {"state", "stream"},
                                                                                    {"service", "default/dns"},
                                                                                    {"pod", pod}}) {
    EXPECT_EQ(agent_->list({{name, value}}).size(), 1) << name;
  }
  for (const auto& [name, value] : std::vector<std::pair<std::string, std::string>>{{"family", "6"},
                                                                                    {"protocol", "tcp"},
                                                                                    {"address", "10.97.0.0/16"},
                                                                                    {"port", "5354"},
                                                                                    {"state", "unreplied"},
                                                                                    {"service", "default/web"},
                                                                                    {"pod", "default/nobody"}}) {
    EXPECT_EQ(agent_->list({{name, value}}).size(), 0) << name;
    EXPECT_EQ(agent_->ask("conntrack.flush", {{name, value}})["ended"], 0) << name;
  }
  EXPECT_EQ(agent_->ask("conntrack.flush", {{"port", "40000"}})["ended"], 1);
  EXPECT_EQ(agent_->list().size(), 0);
  // Its next packet begins anew.
  ASSERT_TRUE(send_number(client, service_, 3));
  ASSERT_TRUE(receive_number(server));
  EXPECT_EQ(agent_->list({{"state", "unreplied"}}).size(), 1);
  EXPECT_EQ(agent_->conntrack->usage()->v4.unreplied, 1);
}

TEST_F(FlowsTest, TimeOutsAreWhatTheConfigurationSays) {
  ASSERT_TRUE(agent_->conntrack->configure({.udp_timeout = std::chrono::seconds(77)}));
  const UniqueFd client = udp_socket(*a_, addresses_[0], 40'001);
  ASSERT_TRUE(send_number(client, service_, 1));
  ASSERT_TRUE(testkit::eventually([&] { return agent_->list().size() == 1; }));
  EXPECT_NEAR(agent_->list()[0]["expires_in_seconds"].get<int>(), 77, 2);
  ASSERT_TRUE(agent_->conntrack->configure({}));
  ASSERT_TRUE(send_number(client, service_, 2));
  EXPECT_TRUE(testkit::eventually([&] { return agent_->list()[0]["expires_in_seconds"] < 40; }));
}

TEST_F(FlowsTest, DropsAreToldAsTheyHappen) {
  const UniqueFd client = udp_socket(*a_, addresses_[0], 40'002);
  const Json nothing = agent_->ask("monitor.next", {{"reason", "no_backend"}});
  EXPECT_EQ(nothing["items"].size(), 0);
  ASSERT_TRUE(send_number(client, to_sockaddr(IpAddress::parse(kEmpty).value(), kPort), 1));
  Json told;
  ASSERT_TRUE(testkit::eventually([&] {
    told = agent_->ask("monitor.next", {{"reason", "no_backend"}, {"after", nothing["next"]}});
    return !told["items"].empty();
  }));
  const Json& drop = told["items"][0];
  EXPECT_EQ(drop["protocol"], "UDP");
  EXPECT_EQ(drop["direction"], "from-pod");
  EXPECT_EQ(drop["source"], (Json{{"address", addresses_[0].str()}, {"port", 40'002}}));
  EXPECT_EQ(drop["destination"], (Json{{"address", kEmpty}, {"port", kPort}}));
  EXPECT_NE(drop["pod"], "");
  EXPECT_EQ(told["lost"], 0);
  const Json others = agent_->ask("monitor.next", {{"reason", "fragment"}, {"after", nothing["next"]}});
  EXPECT_EQ(others["items"].size(), 0);
}

TEST_F(FlowsTest, NewConnectionsAreToldAsTheyBegin) {
  const UniqueFd before = udp_socket(*a_, addresses_[0], 40'010);
  ASSERT_TRUE(send_number(before, service_, 1));
  ASSERT_TRUE(testkit::eventually([&] { return agent_->list().size() == 1; }));
  const Json nothing = agent_->ask("monitor.next", {{"kind", "flow"}});
  EXPECT_EQ(nothing["items"], Json::array()) << "what was there before is no news";
  const UniqueFd client = udp_socket(*a_, addresses_[0], 40'011);
  ASSERT_TRUE(send_number(client, service_, 1));
  ASSERT_TRUE(send_number(client, service_, 2));
  Json told;
  ASSERT_TRUE(testkit::eventually([&] {
    told = agent_->ask("monitor.next", {{"service", "default/dns"}, {"after", nothing["next"]}});
    return !told["items"].empty();
  }));
  ASSERT_EQ(told["items"].size(), 1) << told;
  const Json& flow = told["items"][0];
  EXPECT_EQ(flow["kind"], "flow");
  EXPECT_EQ(flow["protocol"], "UDP");
  EXPECT_EQ(flow["client"], (Json{{"address", addresses_[0].str()}, {"port", 40'011}}));
  EXPECT_EQ(flow["server"], (Json{{"address", kService}, {"port", kPort}}));
  EXPECT_EQ(flow["service"], "default/dns");
  EXPECT_NE(flow["client_pod"], "");
  EXPECT_NE(flow["time"], "");
  for (const auto& [name, value] : {std::pair{"kind", "drop"}, {"pod", "default/nobody"}, {"reason", "fragment"}}) {
    EXPECT_EQ(agent_->ask("monitor.next", {{name, value}, {"after", nothing["next"]}})["items"], Json::array()) << name;
  }
}

TEST_F(FlowsTest, StatusTellsFillAndRefusedConnections) {
  const UniqueFd client = udp_socket(*a_, addresses_[0], 40'004);
  ASSERT_TRUE(send_number(client, service_, 1));
  EXPECT_TRUE(testkit::eventually([&] { return agent_->ask("conntrack.sync")["connections"] == 1; }));
  const Json calm = agent_->ask("conntrack.sync");
  EXPECT_EQ(calm["synced"], true);
  EXPECT_EQ(calm["failing"], Json::object());
  EXPECT_EQ(calm["maps"][0]["capacity"], 131'072);
  // As the programs count it, on the first processor.
  const UniqueFd counters(bpf_obj_get(agent_->node->root().map_path("ct_counters").c_str()));
  const std::uint32_t key = CT_REFUSED;
  std::vector<std::uint64_t> per_cpu(static_cast<std::size_t>(libbpf_num_possible_cpus()));
  ASSERT_EQ(bpf_map_lookup_elem(counters.get(), &key, per_cpu.data()), 0);
  per_cpu[0] += 5;
  ASSERT_EQ(bpf_map_update_elem(counters.get(), &key, per_cpu.data(), 0), 0);
  Json failing;
  EXPECT_TRUE(testkit::eventually([&] {
    failing = agent_->ask("conntrack.sync")["failing"];
    return failing.contains("conntrack");
  }));
  EXPECT_NE(failing["conntrack"].get<std::string>().find("5 new connections were refused"), std::string::npos)
      << failing;
  EXPECT_TRUE(testkit::eventually([&] { return agent_->ask("conntrack.sync")["failing"].empty(); })) << "it is over";
}

// Datagrams there and back all the while, none lost, none misdelivered, and one connection from the first to the last.
TEST_F(FlowsTest, AgentsComeAndGoUnderTraffic) {
  const UniqueFd client = udp_socket(*a_, addresses_[0], 40'003);
  const UniqueFd server = udp_socket(*b_, addresses_[1], kTarget);
  ASSERT_TRUE(send_number(client, service_, 0));
  ASSERT_TRUE(receive_number(server));
  const std::uint64_t before = agent_->created();
  std::atomic<bool> stopping = false;
  std::atomic<std::uint32_t> answered = 0;
  std::uint32_t lost = 0, wrong = 0;
  std::jthread traffic([&] {
    for (std::uint32_t number = 1; !stopping; ++number) {
      const auto asked = send_number(client, service_, number) ? receive_number(server) : std::nullopt;
      const auto answer =
          asked && send_number(server, asked->second, asked->first) ? receive_number(client) : std::nullopt;
      lost += answer ? 0 : 1;
      if (!answer) continue;
      wrong += answer->first == number && answer->second.sin_addr.s_addr == service_.sin_addr.s_addr &&
                       answer->second.sin_port == service_.sin_port
                   ? 0
                   : 1;
      ++answered;
    }
  });
  for (int i = 0; i < 3; ++i) {
    const std::uint32_t so_far = answered;
    EXPECT_TRUE(testkit::eventually([&] { return answered > so_far + 100; }));
    agent_.reset();
    EXPECT_TRUE(testkit::eventually([&] { return answered > so_far + 200; })) << "while no agent runs";
    agent_ = std::make_unique<Agent>(sockets_);
  }
  stopping = true;
  traffic.join();
  EXPECT_EQ(lost, 0) << "of " << answered;
  EXPECT_EQ(wrong, 0);
  EXPECT_EQ(agent_->created(), before);
  const Json all = agent_->list({{"port", "40003"}});
  ASSERT_EQ(all.size(), 1) << all;
  EXPECT_EQ(all[0]["state"], "STREAM");
}

}  // namespace
}  // namespace fairlead::network
