// SPDX-License-Identifier: Apache-2.0
#include "test/netns/pod_network_fixture.h"

#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstring>
#include <fstream>

#include "agent/base/socket_name.h"
#include "test/kit/process.h"

namespace fairlead::network {
namespace {

constexpr std::uint16_t kPort = 8080;
constexpr std::size_t kMessage = 5;

// A socket of a namespace, which gives up after 2 s.
UniqueFd socket_in(const testkit::PodNetns* where, int family, int type) {
  UniqueFd fd;
  const auto open = [&] { fd = UniqueFd(socket(family, type | SOCK_CLOEXEC, 0)); };
  if (where == nullptr) {
    open();
  } else {
    where->run(open);
  }
  const timeval timeout{2, 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
  const int on = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  return fd;
}

int kernel_family(const IpAddress& ip) {
  return ip.is_v4() ? AF_INET : AF_INET6;
}

bool pass(int from, int to) {
  char buffer[kMessage];
  return send(from, "hello", kMessage, MSG_NOSIGNAL) == kMessage && recv(to, buffer, kMessage, MSG_WAITALL) == kMessage;
}

}  // namespace

Node::Node(const std::string& cidrs, FakeSocketClients& sockets, bool waits_for_pods, const std::string& state_dir,
           bool fail_attach, bool isolates) {
  root_.emplace(datapath::BpfRoot::open(testkit::bpffs() + "/fairlead").value());
  programs = datapath::BpfPodPrograms::load(*root_).value();
  watched = std::make_unique<WatchedPrograms>(*programs);
  watched->fail_attach = fail_attach;
  auto [caller, responder] = make_request<Inspect, Json>();
  caller_ = caller;
  NetworkConfig config{.pod_cidrs = cidrs.empty() ? std::vector<Cidr>() : parse_cidr_list(cidrs).value(),
                       .node_ips = parse_ip_list("10.0.0.1,fd00:ffff::1").value(),
                       .state_dir = state_dir.empty() ? testkit::folder() : state_dir,
                       .run_dir = testkit::folder(),
                       .pod_patience = std::chrono::milliseconds(500)};
  network_ = std::make_unique<Network>(
      loop_, clock,
      Network::Deps{.config = config,
                    .programs = *watched,
                    .sockets = sockets,
                    .namespaces = namespaces.writer("network"),
                    .host_ports = host_ports.writer("network"),
                    .requests = std::move(responder),
                    .registry = registry_,
                    .node = node_table.reader(),
                    .pods = waits_for_pods ? std::optional(pod_table.reader()) : std::nullopt,
                    .policies = isolates ? std::optional(policy_table.reader()) : std::nullopt,
                    .services = service_table.reader()});
  started = network_->start();
  server_ = std::make_unique<server::LocalServer>(loop_, testkit::folder() + "/agent.sock",
                                                  server::Routes{{"cni.", {caller_}}});
  EXPECT_TRUE(server_->start());
  thread_ = std::jthread([this] { loop_.run(); });
}

Node::~Node() {
  loop_.stop();
  thread_.join();
}

Result<Json> Node::ask(const std::string& op, const Json& args) {
  return caller_.call_sync({op, args}, std::chrono::seconds(10));
}

std::uint64_t Node::packets(const std::string& verdict) {
  const auto counters = programs->counters().value();
  for (const datapath::VerdictCount& counter : counters) {
    if (counter.reason == verdict) return counter.packets;
  }
  ADD_FAILURE() << "no counter " << verdict;
  return 0;
}

Json plugin_configuration() {
  return {{"cniVersion", "1.0.0"}, {"name", "fairlead"}, {"type", "fairlead-cni"}, {"runDir", testkit::folder()}};
}

PluginResult run_plugin(const std::string& command, const std::string& container, const std::string& netns,
                        const std::string& configuration) {
  const std::string stdin_path = fmt::format("{}/{}-{}.stdin", testkit::folder(), command, container);
  std::ofstream(stdin_path) << (configuration.empty() ? plugin_configuration().dump() : configuration);
  const auto result = testkit::run_command(
      fmt::format("CNI_COMMAND={} CNI_CONTAINERID={} CNI_NETNS={} CNI_IFNAME=eth0 CNI_PATH=/ "
                  "CNI_ARGS='IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=pod-{};K8S_POD_UID=uid' {} <{}",
                  command, container, netns, container, FAIRLEAD_CNI, stdin_path));
  return {result.code, Json::parse(result.output, nullptr, false)};
}

bool Connection::works() const {
  return pass(client.get(), server.get()) && pass(server.get(), client.get());
}

std::optional<Connection> connect_tcp(const testkit::PodNetns* from, const testkit::PodNetns* to,
                                      const IpAddress& address) {
  const UniqueFd listener = socket_in(to, kernel_family(address), SOCK_STREAM);
  SocketName target = socket_name(address, kPort);
  EXPECT_EQ(bind(listener.get(), target.get(), target.size), 0);
  EXPECT_EQ(listen(listener.get(), 8), 0);
  Connection connection;
  connection.client = socket_in(from, kernel_family(address), SOCK_STREAM);
  if (connect(connection.client.get(), target.get(), target.size) != 0) return std::nullopt;
  SocketName peer;
  peer.size = sizeof(peer.storage);
  connection.server = UniqueFd(accept(listener.get(), peer.get(), &peer.size));
  connection.client_seen = socket_address(*peer.get()).value_or(SocketAddress()).address;
  return connection.works() ? std::optional(std::move(connection)) : std::nullopt;
}

bool exchange_udp(const testkit::PodNetns* from, const testkit::PodNetns* to, const IpAddress& address) {
  const UniqueFd server = socket_in(to, kernel_family(address), SOCK_DGRAM);
  const UniqueFd client = socket_in(from, kernel_family(address), SOCK_DGRAM);
  SocketName target = socket_name(address, kPort);
  EXPECT_EQ(bind(server.get(), target.get(), target.size), 0);
  if (connect(client.get(), target.get(), target.size) != 0 || send(client.get(), "hello", kMessage, 0) != kMessage) {
    return false;
  }
  char buffer[16];
  SocketName peer;
  peer.size = sizeof(peer.storage);
  if (recvfrom(server.get(), buffer, sizeof(buffer), 0, peer.get(), &peer.size) != kMessage) return false;
  return sendto(server.get(), buffer, kMessage, 0, peer.get(), peer.size) == kMessage &&
         recv(client.get(), buffer, sizeof(buffer), 0) == kMessage;
}

void send_frame(const testkit::PodNetns& from, const std::vector<std::uint8_t>& frame) {
  from.run([&] {
    const UniqueFd fd(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
    sockaddr_ll address{};
    address.sll_family = AF_PACKET;
    address.sll_ifindex = static_cast<int>(if_nametoindex("eth0"));
    EXPECT_EQ(
        sendto(fd.get(), frame.data(), frame.size(), 0, reinterpret_cast<const sockaddr*>(&address), sizeof(address)),
        static_cast<ssize_t>(frame.size()));
  });
}

AttachedPod attach_pod(const std::string& container) {
  AttachedPod pod{container, testkit::PodNetns::make(container).value(), {}};
  const PluginResult added = run_plugin("ADD", container, pod.netns.path());
  EXPECT_EQ(added.exit_code, 0) << added.output;
  for (const Json& address : added.output.value("ips", Json::array())) {
    pod.addresses.push_back(Cidr::parse(address["address"].get<std::string>()).value().base());
  }
  return pod;
}

}  // namespace fairlead::network
