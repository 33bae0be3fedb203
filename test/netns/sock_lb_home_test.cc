// SPDX-License-Identifier: Apache-2.0
// Services at home: in the element of `services` that their first frontend names (bpf/abi/service.h).
#include <arpa/inet.h>
#include <gmock/gmock.h>

#include "agent/datapath/abi.h"
#include "agent/datapath/map.h"
#include "agent/datapath/service_maps.h"
#include "test/netns/sock_lb_fixture.h"

namespace fairlead::datapath {
namespace {

using testing::IsEmpty;
using testing::Values;
using testkit::ask;

class ServiceHomeTest : public SockLbTest, public testing::WithParamInterface<Kind> {
 protected:
  static std::uint32_t home_of(const Frontend& frontend) {
    const ipv6_address address = to_mapped(frontend.address);
    const auto protocol = static_cast<std::uint8_t>(frontend.protocol);
    return service_home(&address, service_at_word(htons(frontend.port), protocol, SCOPE_CLUSTER), kSmall.services);
  }
  // Where svc4 or svc6 says that it leads, 0: nowhere.
  std::uint32_t index_of(const Frontend& frontend) const {
    std::uint32_t index = 0;
    EXPECT_TRUE(ServiceMaps::open(*agent_.programs)->for_each_frontend([&](const Frontend& each, std::uint32_t to) {
      if (each == frontend) index = to;
    }));
    return index;
  }
  // Takes the frontend out of svc4 or svc6, and leaves the agent's other maps as they are.
  void forget(const Frontend& frontend) const {
    const std::uint16_t port = htons(frontend.port);
    const auto protocol = static_cast<std::uint8_t>(frontend.protocol);
    const auto erase = [&]<class Key>(const char* map, const Key& key) {
      const auto erased = Map<Key, struct frontend>::open(agent_.root->map_path(map))->erase(key);
      EXPECT_TRUE(erased && *erased) << frontend.address.str();
    };
    if (frontend.address.is_v4()) {
      erase("svc4", frontend_v4{frontend.address.v4_be(), port, protocol, SCOPE_CLUSTER});
    } else {
      erase("svc6", frontend_v6{to_abi_v6(frontend.address), port, protocol, SCOPE_CLUSTER});
    }
  }
  ::service element(std::uint32_t index) const {
    return *Map<std::uint32_t, ::service>::open(agent_.root->map_path("services"))->lookup(index).value();
  }
  void write(std::uint32_t index, const ::service& element) const {
    EXPECT_TRUE((Map<std::uint32_t, ::service>::open(agent_.root->map_path("services"))->update(index, element)));
  }
  Frontend frontend(std::uint16_t port = 80) const { return {ip(GetParam().service), port, Protocol::kTcp}; }
  // Another port of the address whose service would have the same home.
  std::uint16_t port_of_neighbour() const {
    std::uint16_t port = 81;
    while (home_of(frontend(port)) != home_of(frontend())) ++port;
    return port;
  }
  std::string answer(std::uint16_t port = 80) const {
    return ask(GetParam().socket, Protocol::kTcp, {ip(GetParam().service), port}).value_or("");
  }
};
INSTANTIATE_TEST_SUITE_P(Kinds, ServiceHomeTest, Values(kV4, kV6, kMapped),
                         [](const auto& kind) { return std::string(kind.param.name); });

TEST_P(ServiceHomeTest, AServiceAtHomeIsNotLookedFor) {
  const auto servers = serve(GetParam().backend, 1);
  apply("a", entry(GetParam().service, Protocol::kTcp, servers));
  ASSERT_EQ(index_of(frontend()), home_of(frontend()));
  forget(frontend());
  EXPECT_EQ(answer(), "b0") << "its home says where it is";
  EXPECT_EQ(answer(81), "") << "another port";
}

TEST_P(ServiceHomeTest, WhereHomeIsTakenAServiceIsElsewhere) {
  const auto servers = serve(GetParam().backend, 2);
  const std::uint16_t port = port_of_neighbour();
  apply("a", entry(GetParam().service, Protocol::kTcp, {}));
  ServiceEntry b = entry(GetParam().service, Protocol::kTcp, servers, port);
  b.backends.resize(1);
  apply("b", b);
  ASSERT_EQ(index_of(frontend()), home_of(frontend()));
  ASSERT_NE(index_of(frontend(port)), home_of(frontend(port)));
  EXPECT_NE(answer(port), "");
  EXPECT_EQ(answer(), "");
  ASSERT_TRUE(agent_.balancer->remove("a"));
  EXPECT_NE(answer(port), "");
  open();
  apply("b", b);
  EXPECT_NE(answer(port), "");
  EXPECT_THAT(agent_.balancer->audit().value(), IsEmpty());
}

TEST_P(ServiceHomeTest, AFrontendThatLeavesIsAtHomeNoMore) {
  const auto servers = serve(GetParam().backend, 1);
  ServiceEntry a = entry(GetParam().service, Protocol::kTcp, servers);
  apply("a", a);
  const std::uint32_t home = index_of(frontend());
  ASSERT_NE(element(home).at, 0U);
  a.frontends = {frontend(443)};
  apply("a", a);
  EXPECT_EQ(index_of(frontend(443)), home) << "a service keeps its element";
  EXPECT_EQ(element(home).at, 0U);
  EXPECT_EQ(answer(), "");
  EXPECT_EQ(answer(443), "b0");
  // Given to another service, and back.
  const auto others = serve(GetParam().backend, 1, "c");
  ServiceEntry c = entry(GetParam().service, Protocol::kTcp, others);
  apply("c", c);
  EXPECT_EQ(answer(), "c0");
  a.frontends = {frontend()};
  apply("a", a);
  EXPECT_EQ(answer(), "b0");
  apply("c", c);
  EXPECT_EQ(answer(), "c0");
  ASSERT_TRUE(agent_.balancer->remove("c"));
  EXPECT_EQ(answer(), "");
}

// What others write into the maps leads nobody astray for longer than until the next audit, or the next agent.
TEST_P(ServiceHomeTest, WhoIsNotAtHomeIsFound) {
  const auto servers = serve(GetParam().backend, 1);
  const ServiceEntry a = entry(GetParam().service, Protocol::kTcp, servers);
  apply("a", a);
  const std::uint32_t home = home_of(frontend());
  const ::service own = element(home);
  ::service foreign = own;
  const std::uint16_t port = port_of_neighbour();
  foreign.port = htons(port);
  write(home, foreign);
  EXPECT_EQ(answer(port), "b0") << "nobody looks further";
  EXPECT_THAT(agent_.balancer->audit().value(), IsEmpty());
  EXPECT_EQ(answer(port), "");
  EXPECT_EQ(answer(), "b0");

  write(home, foreign);
  open();
  EXPECT_EQ(answer(port), "");
  EXPECT_EQ(answer(), "b0");
  apply("a", a);
  EXPECT_THAT(agent_.balancer->audit().value(), IsEmpty());
}

}  // namespace
}  // namespace fairlead::datapath
