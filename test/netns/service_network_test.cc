// SPDX-License-Identifier: Apache-2.0
// Services for sockets that no hook sees: real pods and sockets, translated packet by packet, with offloads as devices
// have them.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstring>

#include "agent/base/socket_name.h"
#include "agent/datapath/bpf_load_balancer.h"
#include "agent/datapath/sock_programs.h"
#include "test/kit/process.h"
#include "test/netns/pod_network_fixture.h"

namespace fairlead::network {
namespace {

using testkit::PodNetns;

constexpr std::uint16_t kPort = 80;
constexpr std::uint16_t kTarget = 8080;

IpAddress ip(const std::string& text) {
  return IpAddress::parse(text).value();
}

using End = SocketAddress;  // of a socket

End to_end(const SocketName& name) {
  return socket_address(*name.get()).value_or(End());
}

// A socket of a namespace (nullptr: the node's) with an address of its own, which gives up after 3 s.
UniqueFd open_socket(const PodNetns* where, int type, const End& own) {
  UniqueFd fd;
  const auto open = [&] { fd = UniqueFd(socket(own.address.is_v4() ? AF_INET : AF_INET6, type | SOCK_CLOEXEC, 0)); };
  if (where == nullptr) {
    open();
  } else {
    where->run(open);
  }
  const timeval patience{3, 0};
  setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  setsockopt(fd.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
  const int on = 1;
  setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
  SocketName address = socket_name(own.address, own.port);
  EXPECT_EQ(bind(fd.get(), address.get(), address.size), 0) << own.address.str() << ": " << strerror(errno);
  return fd;
}

int connect_to(const UniqueFd& fd, const End& to) {
  SocketName address = socket_name(to.address, to.port);
  return connect(fd.get(), address.get(), address.size) == 0 ? 0 : errno;
}

End peer_of(const UniqueFd& fd) {
  SocketName peer;
  EXPECT_EQ(getpeername(fd.get(), peer.get(), &peer.size), 0);
  return to_end(peer);
}

bool send_all(int fd, const std::string& data) {
  for (std::size_t done = 0; done < data.size();) {
    const ssize_t n = send(fd, data.data() + done, data.size() - done, MSG_NOSIGNAL);
    if (n <= 0) return false;
    done += static_cast<std::size_t>(n);
  }
  return true;
}

std::string receive_all(int fd, std::size_t size) {
  std::string data(size, '\0');
  return recv(fd, data.data(), size, MSG_WAITALL) == static_cast<ssize_t>(size) ? data : "";
}

std::string pattern(std::size_t size, unsigned seed) {
  std::string data(size, '\0');
  for (char& c : data) c = static_cast<char>((seed = seed * 1'103'515'245 + 12'345) >> 16);
  return data;
}

class ServiceNetwork : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    ASSERT_TRUE(testkit::enter_node_namespace("service-network"));
    auto socket = netlink::Socket::open().value();
    const std::uint32_t loopback = socket.find_link("lo").value().ifindex;
    for (const IpAddress& address : kNode) ASSERT_TRUE(socket.add_address(loopback, address));
    node_ = std::make_unique<Node>("10.1.0.0/24,fd00:1::/64", sockets_);
    ASSERT_TRUE(node_->started) << node_->started.error().message();
    sock_ = datapath::SockPrograms::load(node_->root(), {}).value();  // attached nowhere: no hook sees these sockets
    balancer_ = datapath::BpfLoadBalancer::open(*sock_).value();
    a_.emplace(attach_pod("a"));
    b_.emplace(attach_pod("b"));
  }
  static void TearDownTestSuite() {
    balancer_.reset();
    sock_.reset();
    node_.reset();
    a_.reset();
    b_.reset();
  }

  // A Service's port that leads to the backends: where clients connect.
  static End serve(std::size_t family, Protocol protocol, const std::vector<datapath::Backend>& backends) {
    const End service{kService[family], kPort};
    datapath::ServiceEntry entry;
    entry.frontends = {{service.address, service.port, protocol}};
    entry.backends = backends;
    const auto applied = balancer_->apply(fmt::format("{}/{}", service.address, static_cast<int>(protocol)), entry);
    EXPECT_TRUE(applied);
    return service;
  }

  // Connects `client` to `service`, whose backend listens in `server`, and moves data both ways.
  static void expect_tcp(const PodNetns* client, const IpAddress& own, const PodNetns* server, const End& backend,
                         const End& service, const IpAddress& client_seen, std::size_t bytes) {
    const UniqueFd listener = open_socket(server, SOCK_STREAM, backend);
    ASSERT_EQ(listen(listener.get(), 4), 0);
    const UniqueFd out = open_socket(client, SOCK_STREAM, {own, 0});
    ASSERT_EQ(connect_to(out, service), 0) << service.address.str();
    EXPECT_EQ(peer_of(out), service);
    const UniqueFd in(accept(listener.get(), nullptr, nullptr));
    ASSERT_TRUE(in);
    EXPECT_EQ(peer_of(in).address, client_seen);
    const timeval patience{3, 0};
    setsockopt(in.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    for (const auto& [from, to] : {std::pair{out.get(), in.get()}, {in.get(), out.get()}}) {
      const std::string data = pattern(bytes, static_cast<unsigned>(from));
      std::jthread sender([&] { EXPECT_TRUE(send_all(from, data)); });
      EXPECT_TRUE(receive_all(to, bytes) == data) << "what arrived is not what was sent";
    }
  }

  // One datagram there, and its answer back.
  static void expect_udp(const UniqueFd& client, const UniqueFd& server, const End& service, std::size_t bytes) {
    SocketName to = socket_name(service.address, service.port);
    const std::string question = pattern(bytes, 1);
    const std::string answer = pattern(bytes + 1, 2);
    ASSERT_EQ(sendto(client.get(), question.data(), bytes, 0, to.get(), to.size), static_cast<ssize_t>(bytes))
        << strerror(errno);
    std::string got(70'000, '\0');
    SocketName peer;
    ASSERT_EQ(recvfrom(server.get(), got.data(), got.size(), 0, peer.get(), &peer.size), static_cast<ssize_t>(bytes));
    EXPECT_TRUE(got.compare(0, bytes, question) == 0);
    ASSERT_EQ(sendto(server.get(), answer.data(), bytes + 1, 0, peer.get(), peer.size),
              static_cast<ssize_t>(bytes + 1));
    SocketName from;
    ASSERT_EQ(recvfrom(client.get(), got.data(), got.size(), 0, from.get(), &from.size),
              static_cast<ssize_t>(bytes + 1));
    EXPECT_TRUE(got.compare(0, bytes + 1, answer) == 0);
    EXPECT_EQ(to_end(from), service);
  }

  static inline const std::vector<IpAddress> kNode{ip("10.0.0.1"), ip("fd00:ffff::1")};
  static inline const std::vector<IpAddress> kService{ip("10.96.0.10"), ip("fd00:96::10")};
  static inline FakeSocketClients sockets_;
  static inline std::unique_ptr<Node> node_;
  static inline std::unique_ptr<datapath::SockPrograms> sock_;
  static inline std::unique_ptr<datapath::BpfLoadBalancer> balancer_;
  static inline std::optional<AttachedPod> a_;
  static inline std::optional<AttachedPod> b_;
};

constexpr std::size_t kMuch = 4 << 20;

TEST_F(ServiceNetwork, TcpReachesALocalBackendWithOffloads) {
  for (std::size_t family = 0; family < 2; ++family) {
    const IpAddress backend = b_->addresses[family];
    const End service = serve(family, Protocol::kTcp, {{backend, kTarget}});
    expect_tcp(&a_->netns, a_->addresses[family], &b_->netns, {backend, kTarget}, service, a_->addresses[family],
               kMuch);
  }
}

TEST_F(ServiceNetwork, TcpReachesABackendBeyondTheStack) {
  for (std::size_t family = 0; family < 2; ++family) {
    const End service = serve(family, Protocol::kTcp, {{kNode[family], kTarget}});
    expect_tcp(&a_->netns, a_->addresses[family], nullptr, {kNode[family], kTarget}, service, a_->addresses[family],
               kMuch);
  }
}

TEST_F(ServiceNetwork, APodReachesItself) {
  for (std::size_t family = 0; family < 2; ++family) {
    const IpAddress own = a_->addresses[family];
    const End service = serve(family, Protocol::kTcp, {{own, kTarget}});
    expect_tcp(&a_->netns, own, &a_->netns, {own, kTarget}, service, service.address, kMuch);
    serve(family, Protocol::kUdp, {{own, kTarget}});
    expect_udp(open_socket(&a_->netns, SOCK_DGRAM, {own, 0}), open_socket(&a_->netns, SOCK_DGRAM, {own, kTarget}),
               service, 1000);
  }
}

TEST_F(ServiceNetwork, DatagramsOfEverySizeAlsoInFragments) {
  for (std::size_t family = 0; family < 2; ++family) {
    const IpAddress backend = b_->addresses[family];
    const End service = serve(family, Protocol::kUdp, {{backend, kTarget}});
    const UniqueFd client = open_socket(&a_->netns, SOCK_DGRAM, {a_->addresses[family], 0});
    const UniqueFd server = open_socket(&b_->netns, SOCK_DGRAM, {backend, kTarget});
    for (const std::size_t size : {1, 100, 1400, 1500, 3000, 9000, 40'000}) expect_udp(client, server, service, size);
  }
}

TEST_F(ServiceNetwork, EverySourcePortIsAConnectionOfItsOwn) {
  const IpAddress backend = b_->addresses[0];
  const End service = serve(0, Protocol::kUdp, {{backend, kTarget}});
  const UniqueFd server = open_socket(&b_->netns, SOCK_DGRAM, {backend, kTarget});
  SocketName to = socket_name(service.address, service.port);
  std::size_t answered = 0;
  a_->netns.run([&] {
    for (unsigned port = 1024; port < 65'536; ++port) {
      const UniqueFd client(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
      SocketName own = socket_name(a_->addresses[0], static_cast<std::uint16_t>(port));
      const timeval patience{3, 0};
      setsockopt(client.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
      char byte = 'x';
      SocketName peer;
      if (bind(client.get(), own.get(), own.size) == 0 && sendto(client.get(), &byte, 1, 0, to.get(), to.size) == 1 &&
          recvfrom(server.get(), &byte, 1, 0, peer.get(), &peer.size) == 1 && to_end(peer).port == port &&
          sendto(server.get(), &byte, 1, 0, peer.get(), peer.size) == 1 && recv(client.get(), &byte, 1, 0) == 1) {
        ++answered;
      }
    }
  });
  EXPECT_EQ(answered, 65'536U - 1024U);
}

TEST_F(ServiceNetwork, WithoutBackendsClientsAreRefusedAtOnce) {
  for (std::size_t family = 0; family < 2; ++family) {
    const End tcp = serve(family, Protocol::kTcp, {});
    EXPECT_EQ(connect_to(open_socket(&a_->netns, SOCK_STREAM, {a_->addresses[family], 0}), tcp), ECONNREFUSED);
    const End unknown{tcp.address, kTarget};
    EXPECT_EQ(connect_to(open_socket(&a_->netns, SOCK_STREAM, {a_->addresses[family], 0}), unknown), ECONNREFUSED);
    serve(family, Protocol::kUdp, {});
    for (const End& to : {tcp, unknown}) {
      const UniqueFd client = open_socket(&a_->netns, SOCK_DGRAM, {a_->addresses[family], 0});
      ASSERT_EQ(connect_to(client, to), 0);
      ASSERT_EQ(send(client.get(), "x", 1, 0), 1);
      char byte = 0;
      EXPECT_LT(recv(client.get(), &byte, 1, 0), 0);
      EXPECT_EQ(errno, ECONNREFUSED);
    }
  }
}

TEST_F(ServiceNetwork, ATcpConnectionEndsAtOnceWithItsBackend) {
  for (std::size_t family = 0; family < 2; ++family) {
    const End backend{b_->addresses[family], kTarget};
    const End service = serve(family, Protocol::kTcp, {{backend.address, backend.port}});
    const UniqueFd listener = open_socket(&b_->netns, SOCK_STREAM, backend);
    ASSERT_EQ(listen(listener.get(), 4), 0);
    const UniqueFd client = open_socket(&a_->netns, SOCK_STREAM, {a_->addresses[family], 0});
    ASSERT_EQ(connect_to(client, service), 0);
    serve(family, Protocol::kTcp, {});
    ASSERT_EQ(send(client.get(), "x", 1, MSG_NOSIGNAL), 1);
    char byte = 0;
    EXPECT_LT(recv(client.get(), &byte, 1, 0), 0);
    EXPECT_EQ(errno, ECONNRESET);
  }
}

// A machine behind a link of 1,280 bytes: the node says so, in an ICMP error that has to find its way back.
TEST_F(ServiceNetwork, ThePathMtuReachesTheClient) {
  const PodNetns remote = PodNetns::make("remote").value();
  const auto setup = testkit::run_command(fmt::format(
      "echo 1 >/proc/sys/net/ipv4/conf/all/forwarding; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding; "
      "ip link add narrow mtu 1280 type veth peer name eth0 netns {0} mtu 1280 && ip address add 192.0.2.1/24 dev "
      "narrow "
      "&& ip address add 2001:db8::1/64 dev narrow nodad && ip link set narrow up && nsenter --net={0} sh -c "
      "'ip link set lo up; ip address add 192.0.2.7/24 dev eth0; ip address add 2001:db8::7/64 dev eth0 nodad; "
      "ip link set eth0 up; ip route add default via 192.0.2.1; ip route add default via 2001:db8::1'",
      remote.path()));
  ASSERT_EQ(setup.code, 0) << setup.output;
  for (std::size_t family = 0; family < 2; ++family) {
    const IpAddress backend = ip(family == 0 ? "192.0.2.7" : "2001:db8::7");
    const End service = serve(family, Protocol::kUdp, {{backend, kTarget}});
    const UniqueFd server = open_socket(&remote, SOCK_DGRAM, {backend, kTarget});
    const UniqueFd client = open_socket(&a_->netns, SOCK_DGRAM, {a_->addresses[family], 0});
    const int always = family == 0 ? IP_PMTUDISC_DO : IPV6_PMTUDISC_DO;
    ASSERT_EQ(family == 0 ? setsockopt(client.get(), IPPROTO_IP, IP_MTU_DISCOVER, &always, sizeof(always))
                          : setsockopt(client.get(), IPPROTO_IPV6, IPV6_MTU_DISCOVER, &always, sizeof(always)),
              0);
    expect_udp(client, server, service, 1000);
    ASSERT_EQ(connect_to(client, service), 0);
    const std::string large = pattern(1380, 3);
    EXPECT_EQ(send(client.get(), large.data(), large.size(), 0), static_cast<ssize_t>(large.size()));
    EXPECT_TRUE(testkit::eventually([&] { return send(client.get(), large.data(), large.size(), 0) < 0; }));
    EXPECT_EQ(errno, EMSGSIZE);
    int mtu = 0;
    socklen_t size = sizeof(mtu);
    ASSERT_EQ(family == 0 ? getsockopt(client.get(), IPPROTO_IP, IP_MTU, &mtu, &size)
                          : getsockopt(client.get(), IPPROTO_IPV6, IPV6_MTU, &mtu, &size),
              0);
    EXPECT_EQ(mtu, 1280);
    // TCP finds the way by itself.
    const End stream = serve(family, Protocol::kTcp, {{backend, kTarget}});
    expect_tcp(&a_->netns, a_->addresses[family], &remote, {backend, kTarget}, stream, a_->addresses[family], 200'000);
  }
  EXPECT_EQ(testkit::run_command("ip link del narrow").code, 0);
}

}  // namespace
}  // namespace fairlead::network
