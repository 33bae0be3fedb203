// SPDX-License-Identifier: Apache-2.0
// Services over several nodes (nodes_fixture.h): backends here and there, for sockets that a hook sees and for others.
#include <cerrno>

#include "test/netns/nodes_fixture.h"

namespace fairlead {
namespace {

using namespace std::chrono_literals;
using testkit::BedPod;
using testkit::Endpoint;
using testkit::eventually;
using testkit::kPodPort;
using testkit::PodNetns;
using testkit::Stream;

IpAddress cluster_ip(Family family, unsigned number) {
  return IpAddress::parse(fmt::format(fmt::runtime(family == Family::kV4 ? "10.96.0.{}" : "fd00:96::{}"), number))
      .value();
}

// A Service without selector of both families, and its slices.
std::string service(const std::string& name, unsigned number, const std::vector<const BedPod*>& backends,
                    const std::vector<Family>& families) {
  std::string addresses;
  for (const Family family : families) {
    addresses += fmt::format("{}\"{}\"", addresses.empty() ? "" : ", ", cluster_ip(family, number));
  }
  std::string text = fmt::format(
      "apiVersion: v1\nkind: Service\nmetadata: {{name: {}}}\n"
      "spec: {{clusterIP: \"{}\", clusterIPs: [{}], ipFamilyPolicy: PreferDualStack, "
      "ports: [{{name: t, port: 80, protocol: TCP}}, {{name: u, port: 80, protocol: UDP}}]}}\n",
      name, cluster_ip(families.front(), number), addresses);
  for (const Family family : families) {
    std::string endpoints;
    for (const BedPod* pod : backends) {
      endpoints += fmt::format("{}{{addresses: [\"{}\"]}}", endpoints.empty() ? "" : ", ", pod->address(family));
    }
    text += fmt::format(
        "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n"
        "metadata: {{name: {0}-{1}, labels: {{kubernetes.io/service-name: {0}}}}}\naddressType: IPv{1}\n"
        "ports: [{{name: t, port: {2}, protocol: TCP}}, {{name: u, port: {2}, protocol: UDP}}]\nendpoints: [{3}]\n",
        name, static_cast<int>(family), kPodPort, endpoints);
  }
  return text;
}

template <class Mode>
class NodesServiceTest : public Nodes<Mode> {
 protected:
  // The server at `to` sees `who` when `from` speaks to it, once what was asked for is in force.
  static void expect_seen(const PodNetns& from, const Endpoint& to, const IpAddress& who) {
    Result<IpAddress> last = fail(Code::kTimeout, "not tried");
    EXPECT_TRUE(eventually([&] { return (last = seen(from, to)).has_value(); }, 10s))
        << to_string(to) << ": " << why(last) << Nodes<Mode>::bed->node(1).ctl("service list").dump(1);
    EXPECT_EQ(last.value_or(IpAddress()), who) << to_string(to);
  }
};
TYPED_TEST_SUITE(NodesServiceTest, NodesModes);

TYPED_TEST(NodesServiceTest, ABackendOfAnotherNodeIsReached) {
  this->bed->apply("far.yaml", service("far", 10, {&this->pod("b1")}, this->families()));
  for (const bool by_socket : {false, true}) {
    if (by_socket) this->enter_cgroup();
    for (const Family family : this->families()) {
      const Endpoint to{cluster_ip(family, 10), 80};
      this->expect_seen(this->pod("a1").netns(), to, this->pod("a1").address(family));
      auto stream = in(this->pod("a1").netns(), [&] { return Stream::connect(to); });
      ASSERT_TRUE(stream) << why(stream);
      const auto exchanged = stream->exchange(1U << 20);
      EXPECT_TRUE(exchanged) << why(exchanged);
      const auto fragments = in(this->pod("a1").netns(), [&] { return testkit::ask_datagram(to, 6000); });
      EXPECT_TRUE(fragments) << why(fragments);
      // Hairpin: the backend reaches itself by its Service; packets come from there, too.
      this->expect_seen(this->pod("b1").netns(), to, by_socket ? this->pod("b1").address(family) : to.address);
    }
  }
  // Nodes reach Services by their sockets.
  for (const Family family : this->families()) {
    this->expect_seen(this->bed->node(1).netns(), {cluster_ip(family, 10), 80}, this->bed->node(1).address(family));
  }
  this->bed->withdraw("far.yaml");
}

// A host port of a1: TCP and UDP on every address of its node, and on one that is named.
TYPED_TEST(NodesServiceTest, AHostPortIsReachedFromEverywhere) {
  const auto named = [&](Family family) { return this->bed->node(1).address(family).str(); };
  const auto mapping = [](unsigned port, const char* protocol, const std::string& ip) {
    Json out{{"hostPort", port}, {"containerPort", kPodPort}, {"protocol", protocol}};
    if (!ip.empty()) out["hostIP"] = ip;
    return out;
  };
  Json mappings = Json::array();
  for (const char* protocol : {"tcp", "udp"}) {
    mappings.push_back(mapping(8081, protocol, ""));
    mappings.push_back(mapping(8084, protocol, named(Family::kV4)));
    mappings.push_back(mapping(8086, protocol, named(Family::kV6)));
    mappings.push_back(mapping(8087, protocol, "127.0.0.1"));
    mappings.push_back(mapping(8087, protocol, "::1"));
  }
  this->add_pod(1, "h1", {{"portMappings", mappings}});
  const BedPod& served = this->pod("h1");
  const BedPod& world = this->bed->world();
  for (const bool by_socket : {false, true}) {
    if (by_socket) this->enter_cgroup();
    for (const Family family : this->families()) {
      const std::uint16_t own_port = family == Family::kV4 ? 8084 : 8086;
      const std::uint16_t other_port = family == Family::kV4 ? 8086 : 8084;
      const IpAddress node = this->bed->node(1).address(family);
      for (const std::uint16_t port : {std::uint16_t{8081}, own_port}) {
        const Endpoint to{node, port};
        this->expect_seen(world.netns(), to, world.address(family));
        this->expect_seen(this->bed->node(2).netns(), to, this->bed->node(2).address(family));
        this->expect_seen(this->pod("b1").netns(), to, this->pod("b1").address(family));
        this->expect_seen(this->pod("a2").netns(), to, this->pod("a2").address(family));
        this->expect_seen(served.netns(), to, by_socket ? served.address(family) : node);
        if (by_socket) this->expect_seen(this->bed->node(1).netns(), to, node);
        auto stream = in(world.netns(), [&] { return Stream::connect(to); });
        ASSERT_TRUE(stream) << why(stream);
        const auto exchanged = stream->exchange(1U << 20);
        EXPECT_TRUE(exchanged) << why(exchanged);
        const auto fragments = in(world.netns(), [&] { return testkit::ask_datagram(to, 6000); });
        EXPECT_TRUE(fragments) << why(fragments);
      }
      // The loopback is the node's own, and no pod's.
      const Endpoint own{IpAddress::parse(family == Family::kV4 ? "127.0.0.1" : "::1").value(), 8081};
      if (by_socket) this->expect_seen(this->bed->node(1).netns(), own, node);
      const Endpoint alone{own.address, 8087};
      if (by_socket) this->expect_seen(this->bed->node(1).netns(), alone, node);
      const auto outside = in(world.netns(), [&] { return testkit::refused({node, 8087}); });
      EXPECT_EQ(outside.value_or(0), ECONNREFUSED) << why(outside);
      const auto other = in(this->pod("a2").netns(), [&] { return testkit::refused(own); });
      EXPECT_EQ(other.value_or(0), ECONNREFUSED) << why(other);
      const auto closed = in(world.netns(), [&] { return testkit::refused({node, other_port}); });
      EXPECT_EQ(closed.value_or(0), ECONNREFUSED) << why(closed);
    }
  }
  // It ends with its pod.
  const auto gone = this->bed->node(1).delete_pod(served);
  ASSERT_TRUE(gone) << why(gone);
  this->pods.erase("h1");
  for (const Family family : this->families()) {
    EXPECT_TRUE(eventually([&] {
      return in(world.netns(), [&] {
               return testkit::refused({this->bed->node(1).address(family), 8081});
             }).value_or(0) == ECONNREFUSED;
    }));
  }
}

}  // namespace
}  // namespace fairlead
