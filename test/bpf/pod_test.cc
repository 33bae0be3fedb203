// SPDX-License-Identifier: Apache-2.0
// Every path of pod.bpf.c, by BPF_PROG_RUN on the filters of real devices.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/pkt_cls.h>

#include "agent/base/unique_fd.h"
#include "agent/datapath/pod_programs.h"
#include "agent/netlink/socket.h"
#include "test/kit/netns.h"
#include "test/kit/packet.h"

namespace fairlead::datapath {
namespace {

using testkit::Bytes;
using testkit::frame;

IpAddress ip(const char* text) {
  return IpAddress::parse(text).value();
}

constexpr Mac kBroadcast{0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
constexpr Mac kForeign{2, 9, 9, 9, 9, 9};

// A pod as the data path sees it, with a real device at the host side.
struct Pod {
  PodEndpoint endpoint;
  IpAddress v4() const { return endpoint.addresses[0]; }
  IpAddress v6() const { return endpoint.addresses[1]; }
  testkit::Ethernet to_host() const { return {endpoint.host_mac, endpoint.mac}; }
  testkit::Ethernet from_host() const { return {endpoint.mac, endpoint.host_mac}; }
};

struct Verdict {
  int action = 0;
  Bytes packet;
};

class PodProgramsTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    ASSERT_TRUE(testkit::enter_node_namespace("pod-bpf"));
    auto root = BpfRoot::open(testkit::bpffs() + "/fairlead");
    ASSERT_TRUE(root) << root.error().message();
    root_ = std::make_unique<BpfRoot>(std::move(*root));
    auto loaded = BpfPodPrograms::load(*root_);
    ASSERT_TRUE(loaded) << loaded.error().message();
    programs_ = std::move(*loaded);
    a_ = make_pod(1);
    b_ = make_pod(2);
    stranger_ = make_pod(3);
    ASSERT_TRUE(programs_->upsert(a_.endpoint));
    ASSERT_TRUE(programs_->upsert(b_.endpoint));
  }
  static void TearDownTestSuite() {
    programs_.reset();
    root_.reset();
  }

  // Device, filters, but no endpoint yet.
  static Pod make_pod(std::uint8_t number) {
    Pod pod;
    pod.endpoint.mac = {0x0a, 0, 0, 0, 1, number};
    pod.endpoint.host_mac = {0x0a, 0, 0, 0, 2, number};
    pod.endpoint.netns_cookie = number;
    pod.endpoint.addresses = {ip(fmt::format("10.1.0.{}", number).c_str()),
                              ip(fmt::format("fd00::{}", number).c_str())};
    auto socket = netlink::Socket::open().value();
    const UniqueFd here(open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
    pod.endpoint.ifindex = socket
                               .create_veth({.name = fmt::format("host{}", number),
                                             .mac = pod.endpoint.host_mac,
                                             .peer_name = fmt::format("pod{}", number),
                                             .peer_mac = pod.endpoint.mac,
                                             .peer_netns = here.get(),
                                             .mtu = 1450})
                               .value()
                               .ifindex;
    EXPECT_TRUE(programs_->attach(pod.endpoint.ifindex));
    return pod;
  }

  static Verdict run(bpf_tc_attach_point point, const Pod& pod, const Bytes& packet) {
    bpf_tc_hook hook{};
    hook.sz = sizeof(hook);
    hook.ifindex = static_cast<int>(pod.endpoint.ifindex);
    hook.attach_point = point;
    bpf_tc_opts filter{};
    filter.sz = sizeof(filter);
    filter.handle = 1;
    filter.priority = 1;
    EXPECT_EQ(bpf_tc_query(&hook, &filter), 0);
    const UniqueFd program(bpf_prog_get_fd_by_id(filter.prog_id));
    Verdict verdict;
    verdict.packet.resize(packet.size() + 256);
    __sk_buff context{};
    context.ifindex = pod.endpoint.ifindex;
    LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = packet.data(), .data_out = verdict.packet.data(),
                .data_size_in = static_cast<__u32>(packet.size()),
                .data_size_out = static_cast<__u32>(verdict.packet.size()), .ctx_in = &context,
                .ctx_size_in = sizeof(context));
    EXPECT_EQ(bpf_prog_test_run_opts(program.get(), &options), 0);
    verdict.packet.resize(options.data_size_out);
    verdict.action = static_cast<int>(options.retval);
    return verdict;
  }
  static Verdict from_pod(const Pod& pod, const Bytes& packet) { return run(BPF_TC_INGRESS, pod, packet); }
  static Verdict to_pod(const Pod& pod, const Bytes& packet) { return run(BPF_TC_EGRESS, pod, packet); }

  static std::uint64_t count(const std::string& reason) {
    const auto counters = programs_->counters().value();
    for (const VerdictCount& counter : counters) {
      if (counter.reason == reason) return counter.packets;
    }
    ADD_FAILURE() << "no counter " << reason;
    return 0;
  }

  // The packet was dropped, for this reason and counted once.
  template <class Direction>
  static void expect_drop(Direction direction, const Pod& pod, const Bytes& packet, const std::string& reason) {
    const std::uint64_t before = count(reason);
    EXPECT_EQ(direction(pod, packet).action, TC_ACT_SHOT);
    EXPECT_EQ(count(reason), before + 1) << reason;
  }

  // It went on to the host stack, or to the pod, unchanged.
  template <class Direction>
  static void expect_passed(Direction direction, const Pod& pod, const Bytes& packet) {
    const std::uint64_t before = count("forwarded");
    const Verdict verdict = direction(pod, packet);
    EXPECT_EQ(verdict.action, TC_ACT_OK);
    EXPECT_EQ(verdict.packet, packet);
    EXPECT_EQ(count("forwarded"), before + 1);
  }

  static inline std::unique_ptr<BpfRoot> root_;
  static inline std::unique_ptr<BpfPodPrograms> programs_;
  static inline Pod a_;
  static inline Pod b_;
  static inline Pod stranger_;  // has filters, but no endpoint
};

TEST_F(PodProgramsTest, ADeviceWithoutEndpointPassesNothing) {
  const Bytes out = frame(stranger_.to_host(), testkit::Ip{stranger_.v4(), ip("8.8.8.8")}, testkit::udp(1, 2));
  expect_drop(from_pod, stranger_, out, "no_endpoint");
  const Bytes in = frame(stranger_.from_host(), testkit::Ip{ip("8.8.8.8"), stranger_.v4()}, testkit::udp(1, 2));
  expect_drop(to_pod, stranger_, in, "no_endpoint");
}

TEST_F(PodProgramsTest, PodToPodIsRoutedToThePeerAsARouterWould) {
  for (const auto& [source, destination] : {std::pair{a_.v4(), b_.v4()}, {a_.v6(), b_.v6()}}) {
    for (const auto& transport : {testkit::udp(1000, 53), testkit::tcp(1000, 80), testkit::icmp(8)}) {
      const std::uint64_t before = count("forwarded");
      const Verdict verdict = from_pod(a_, frame(a_.to_host(), testkit::Ip{source, destination, 64}, transport));
      EXPECT_EQ(verdict.action, TC_ACT_REDIRECT);
      EXPECT_EQ(verdict.packet, frame(b_.from_host(), testkit::Ip{source, destination, 63}, transport));
      EXPECT_EQ(count("forwarded"), before + 1);
    }
  }
}

TEST_F(PodProgramsTest, TheHeaderChecksumHoldsForEveryTtl) {
  for (unsigned ttl = 2; ttl <= 255; ++ttl) {
    const auto before = static_cast<std::uint8_t>(ttl);
    const auto after = static_cast<std::uint8_t>(ttl - 1);
    const Verdict verdict =
        from_pod(a_, frame(a_.to_host(), testkit::Ip{a_.v4(), b_.v4(), before}, testkit::udp(1, 2)));
    ASSERT_EQ(verdict.packet, frame(b_.from_host(), testkit::Ip{a_.v4(), b_.v4(), after}, testkit::udp(1, 2))) << ttl;
  }
}

TEST_F(PodProgramsTest, TheLastHopGoesToTheStackWhichAnswers) {
  for (const auto& [source, destination] : {std::pair{a_.v4(), b_.v4()}, {a_.v6(), b_.v6()}}) {
    expect_passed(from_pod, a_, frame(a_.to_host(), testkit::Ip{source, destination, 1}, testkit::udp(1, 2)));
  }
}

TEST_F(PodProgramsTest, AFrameForAnotherMacIsNotForwarded) {
  for (const auto& [source, destination] : {std::pair{a_.v4(), b_.v4()}, {a_.v6(), b_.v6()}}) {
    expect_passed(from_pod, a_,
                  frame({kForeign, a_.endpoint.mac}, testkit::Ip{source, destination}, testkit::udp(1, 2)));
  }
}

TEST_F(PodProgramsTest, WhatIsNotForALocalPodGoesToTheStackUnchanged) {
  expect_passed(from_pod, a_, frame(a_.to_host(), testkit::Ip{a_.v4(), ip("8.8.8.8")}, testkit::tcp(1, 2)));
  expect_passed(from_pod, a_, frame(a_.to_host(), testkit::Ip{a_.v6(), ip("2001:db8::1")}, testkit::tcp(1, 2)));
  expect_passed(from_pod, a_, frame(a_.to_host(), testkit::Ip{a_.v4(), stranger_.v4()}, testkit::tcp(1, 2)));
}

TEST_F(PodProgramsTest, ForeignSourcesAreDropped) {
  const auto send = [](const IpAddress& source, const IpAddress& destination) {
    return frame(a_.to_host(), testkit::Ip{source, destination}, testkit::udp(1, 2));
  };
  for (const char* source : {"10.1.0.2", "8.8.8.8", "0.0.0.0", "127.0.0.1"}) {
    expect_drop(from_pod, a_, send(ip(source), b_.v4()), "source_address");
  }
  for (const char* source : {"fd00::2", "2001:db8::1", "::1", "fe80::1"}) {
    expect_drop(from_pod, a_, send(ip(source), b_.v6()), "source_address");
  }
  const testkit::Ip foreign_mac_source{a_.v4(), b_.v4()};
  expect_drop(from_pod, a_, frame({a_.endpoint.host_mac, kForeign}, foreign_mac_source, testkit::udp(1, 2)),
              "source_mac");
}

TEST_F(PodProgramsTest, AFamilyThatAPodDoesNotHaveIsForeign) {
  Pod v6_only = make_pod(4);
  v6_only.endpoint.addresses.erase(v6_only.endpoint.addresses.begin());
  ASSERT_TRUE(programs_->upsert(v6_only.endpoint));
  expect_drop(from_pod, v6_only, frame(v6_only.to_host(), testkit::Ip{ip("0.0.0.0"), b_.v4()}, testkit::udp(1, 2)),
              "source_address");
  expect_drop(
      from_pod, v6_only,
      frame({kBroadcast, v6_only.endpoint.mac}, testkit::Arp{1, v6_only.endpoint.mac, ip("0.0.0.0"), {}, b_.v4()}),
      "source_address");
  expect_drop(to_pod, v6_only, frame(v6_only.from_host(), testkit::Ip{b_.v4(), ip("10.1.0.4")}, testkit::udp(1, 2)),
              "destination");
}

TEST_F(PodProgramsTest, LinkLocalAndUnspecifiedStayOnTheLink) {
  const IpAddress own = link_local_of(a_.endpoint.mac);
  expect_passed(from_pod, a_, frame(a_.to_host(), testkit::Ip{own, ip("ff02::2")}, testkit::icmp6(133)));
  expect_passed(from_pod, a_, frame(a_.to_host(), testkit::Ip{own, ip("fe80::1")}, testkit::icmp6(135)));
  // To another pod's address: the stack will not route it, and neither do we.
  expect_passed(from_pod, a_, frame(a_.to_host(), testkit::Ip{own, b_.v6()}, testkit::udp(1, 2)));
  // Duplicate address detection; a listener report with a hop-by-hop header.
  expect_passed(from_pod, a_, frame(a_.to_host(), testkit::Ip{ip("::"), ip("ff02::1:ff00:1")}, testkit::icmp6(135)));
  expect_passed(from_pod, a_, frame(a_.to_host(), testkit::Ip{ip("::"), ip("ff02::16")}, {0, Bytes(16, 0)}));
  expect_drop(from_pod, a_, frame(a_.to_host(), testkit::Ip{ip("::"), b_.v6()}, testkit::icmp6(135)), "source_address");
  expect_drop(from_pod, a_, frame(a_.to_host(), testkit::Ip{ip("::"), ip("ff02::1")}, testkit::udp(1, 2)),
              "source_address");
}

TEST_F(PodProgramsTest, ArpSpeaksOnlyForItsOwnAddress) {
  const testkit::Ethernet ethernet{kBroadcast, a_.endpoint.mac};
  const testkit::Arp own{1, a_.endpoint.mac, a_.v4(), {}, ip("169.254.1.1")};
  expect_passed(from_pod, a_, frame(ethernet, own));
  testkit::Arp poison = own;
  poison.sender = b_.v4();
  expect_drop(from_pod, a_, frame(ethernet, poison), "source_address");
  testkit::Arp liar = own;
  liar.sender_mac = kForeign;
  expect_drop(from_pod, a_, frame(ethernet, liar), "source_mac");
  Bytes cut = frame(ethernet, own);
  cut.resize(30);
  expect_drop(from_pod, a_, cut, "malformed");
  Bytes odd = frame(ethernet, own);
  odd[14 + 4] = 8;  // hardware address size
  expect_drop(from_pod, a_, odd, "malformed");
}

TEST_F(PodProgramsTest, OtherProtocolsAndBrokenHeadersAreDropped) {
  expect_drop(from_pod, a_, frame(a_.to_host(), 0x88cc, Bytes(46, 0)), "protocol");  // LLDP
  expect_drop(from_pod, a_, frame(a_.to_host(), 0x8100, Bytes(46, 0)), "protocol");  // a VLAN tag
  expect_drop(to_pod, a_, frame(a_.from_host(), 0x88cc, Bytes(46, 0)), "protocol");
  for (const auto& [source, destination] : {std::pair{a_.v4(), b_.v4()}, {a_.v6(), b_.v6()}}) {
    const Bytes whole = frame(a_.to_host(), testkit::Ip{source, destination}, testkit::udp(1, 2));
    Bytes version = whole;
    version[14] = 0x55;
    expect_drop(from_pod, a_, version, "malformed");
  }
  Bytes short_header = frame(a_.to_host(), testkit::Ip{a_.v4(), b_.v4()}, testkit::udp(1, 2));
  short_header[14] = 0x44;  // four words
  expect_drop(from_pod, a_, short_header, "malformed");
}

TEST_F(PodProgramsTest, AFirstFragmentIsRouted) {
  Bytes fragment = frame(a_.to_host(), testkit::Ip{a_.v4(), b_.v4()}, testkit::udp(1, 2));
  testkit::set16(fragment, 14 + 6, 0x2000);  // more to come
  EXPECT_EQ(from_pod(a_, fragment).action, TC_ACT_REDIRECT);
}

TEST_F(PodProgramsTest, ThePodIsReachedOnlyAtItsOwnAddresses) {
  const auto send = [](const IpAddress& source, const IpAddress& destination) {
    return frame(a_.from_host(), testkit::Ip{source, destination}, testkit::udp(1, 2));
  };
  expect_passed(to_pod, a_, send(ip("10.0.0.1"), a_.v4()));
  expect_passed(to_pod, a_, send(ip("2001:db8::1"), a_.v6()));
  expect_passed(to_pod, a_, send(ip("fe80::1"), link_local_of(a_.endpoint.mac)));
  expect_passed(to_pod, a_, send(ip("fe80::1"), ip("ff02::1")));
  expect_drop(to_pod, a_, send(ip("10.0.0.1"), b_.v4()), "destination");
  expect_drop(to_pod, a_, send(ip("2001:db8::1"), b_.v6()), "destination");
  const testkit::Arp request{1, a_.endpoint.host_mac, ip("10.0.0.1"), {}, a_.v4()};
  expect_passed(to_pod, a_, frame(a_.from_host(), request));
  testkit::Arp other = request;
  other.target = b_.v4();
  expect_drop(to_pod, a_, frame(a_.from_host(), other), "destination");
  for (const auto& [source, destination] : {std::pair{b_.v4(), a_.v4()}, {b_.v6(), a_.v6()}}) {
    Bytes version = send(source, destination);
    version[14] = 0x55;
    expect_drop(to_pod, a_, version, "malformed");
  }
}

TEST_F(PodProgramsTest, AnErasedEndpointIsFoundByNobody) {
  Pod pod = make_pod(5);
  ASSERT_TRUE(programs_->upsert(pod.endpoint));
  const Bytes to_it = frame(a_.to_host(), testkit::Ip{a_.v4(), pod.v4()}, testkit::udp(1, 2));
  EXPECT_EQ(from_pod(a_, to_it).action, TC_ACT_REDIRECT);
  ASSERT_TRUE(programs_->erase(pod.endpoint.ifindex));
  expect_passed(from_pod, a_, to_it);
  expect_drop(from_pod, pod, frame(pod.to_host(), testkit::Ip{pod.v4(), a_.v4()}, testkit::udp(1, 2)), "no_endpoint");
  EXPECT_TRUE(programs_->erase(pod.endpoint.ifindex));
}

TEST_F(PodProgramsTest, AnAddressHasOneOwner) {
  Pod thief = make_pod(6);
  thief.endpoint.addresses = {a_.v4()};
  const auto refused = programs_->upsert(thief.endpoint);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, Code::kExists);
  EXPECT_EQ(from_pod(b_, frame(b_.to_host(), testkit::Ip{b_.v4(), a_.v4()}, testkit::udp(1, 2))).action,
            TC_ACT_REDIRECT);
}

TEST_F(PodProgramsTest, ASecondLoadAdoptsTheMapsAndReplacesTheFilters) {
  auto second = BpfPodPrograms::load(*root_);
  ASSERT_TRUE(second) << second.error().message();
  EXPECT_EQ((*second)->endpoints(), programs_->endpoints());
  EXPECT_TRUE(programs_->attached(a_.endpoint.ifindex).value());
  EXPECT_FALSE((*second)->attached(a_.endpoint.ifindex).value());
  ASSERT_TRUE((*second)->attach(a_.endpoint.ifindex));
  EXPECT_TRUE((*second)->attached(a_.endpoint.ifindex).value());
  EXPECT_FALSE(programs_->attached(a_.endpoint.ifindex).value());
  EXPECT_EQ(from_pod(a_, frame(a_.to_host(), testkit::Ip{a_.v4(), b_.v4()}, testkit::udp(1, 2))).action,
            TC_ACT_REDIRECT);
  ASSERT_TRUE(programs_->attach(a_.endpoint.ifindex));
}

}  // namespace
}  // namespace fairlead::datapath
