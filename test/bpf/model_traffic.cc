// SPDX-License-Identifier: Apache-2.0
#include "test/bpf/model_traffic.h"

#include <linux/pkt_cls.h>

namespace fairlead::model {
namespace {

constexpr std::size_t kRemembered = 24;
// Services: for each family, address, protocol and port one that may be there.
constexpr std::size_t kServiceAddresses = 2;
constexpr std::size_t kPodsAndOutside = 6;
constexpr std::uint16_t kServicePorts[] = {80, 81};
constexpr std::uint16_t kBackendPorts[] = {8080, 8081};
constexpr Protocol kProtocols[] = {Protocol::kTcp, Protocol::kUdp, Protocol::kSctp};
constexpr std::size_t kEthernet = 14;
constexpr datapath::RuleSetId kRuleSets = 3;

IpAddress ip_of(const std::string& text) {
  return IpAddress::parse(text).value();
}

IpAddress service_address(Family family, std::size_t number) {
  return ip_of(fmt::format("{}{}", family == Family::kV4 ? "10.96.0." : "fd00:10:96::", 1 + number));
}

std::optional<IpHeaders> headers_of(const Bytes& frame) {
  if (frame.size() < kEthernet) return std::nullopt;
  const std::uint16_t ethertype = get16(frame, 12);
  if (ethertype == 0x0800) return ip_headers(frame, kEthernet, Family::kV4);
  if (ethertype == 0x86dd) return ip_headers(frame, kEthernet, Family::kV6);
  return std::nullopt;
}

// BPF_PROG_RUN wants a whole IP header, whatever is in it.
std::size_t shortest(const Bytes& frame) {
  const std::uint16_t ethertype = get16(frame, 12);
  return kEthernet + (ethertype == 0x0800 ? 20 : ethertype == 0x86dd ? 40 : 0);
}

}  // namespace

IpAddress Traffic::pod_address(Family family) {
  return any(pods_).address(family);
}

IpAddress Traffic::outside_address(Family family) {
  const std::size_t which = below(12);
  if (which == 0) return ip_of(family == Family::kV4 ? "224.0.0.1" : "ff02::1");
  if (which == 1) return ip_of(family == Family::kV4 ? "0.0.0.0" : "::");
  if (which == 2 && family == Family::kV6) return link_local_of(any(pods_).endpoint.mac);
  return ip_of(fmt::format("{}{}", family == Family::kV4 ? "192.0.2." : "2001:db8::", 1 + below(3)));
}

testkit::Ip Traffic::ip(const IpAddress& source, const IpAddress& destination) {
  testkit::Ip out{source, destination, static_cast<std::uint8_t>(one_in(16) ? below(3) : 2 + below(254))};
  if (one_in(8)) {
    if (source.is_v4()) {
      out.options = Bytes(4 * (1 + below(10)), 1);
    } else {
      for (std::size_t i = 1 + below(3); i > 0; --i) {
        static constexpr std::uint8_t kTypes[] = {0, 43, 60};
        out.extensions.push_back({any(kTypes), Bytes(6 + 8 * below(3), 0)});
      }
    }
  }
  return out;
}

testkit::Transport Traffic::transport(Family family, std::uint16_t source, std::uint16_t destination) {
  const std::string payload(below(40), 'p');
  switch (below(10)) {
    case 0:
      return family == Family::kV4 && one_in(4) ? testkit::udp_unsummed(source, destination, payload)
                                                : testkit::udp(source, destination, payload);
    case 1:
    case 2:
      return testkit::udp(source, destination, payload);
    case 3:
      return testkit::sctp(source, destination, static_cast<std::uint8_t>(below(16)));
    case 4: {
      const Bytes rest = testkit::echo_rest(source, static_cast<std::uint16_t>(below(4)));
      if (family == Family::kV4) return testkit::icmp(one_in(4) ? 0 : 8, 0, rest);
      return testkit::icmp6(one_in(4) ? 129 : 128, 0, rest);
    }
    case 5:
      if (one_in(4)) return {static_cast<std::uint8_t>(below(256)), Bytes(below(30), 7)};
      [[fallthrough]];
    default: {
      static constexpr std::uint8_t kFlags[] = {0x02, 0x02, 0x12, 0x10, 0x10, 0x18, 0x11, 0x04, 0x14};
      const std::uint8_t flags = one_in(32) ? static_cast<std::uint8_t>(below(64)) : any(kFlags);
      return testkit::tcp(source, destination, flags, payload, static_cast<std::uint32_t>(random_()),
                          static_cast<std::uint32_t>(random_()), Bytes(4 * (one_in(4) ? below(11) : 0), 1));
    }
  }
}

Step Traffic::packet_between(std::size_t pod, bool from_pod, testkit::Ip ip, const testkit::Transport& transport) {
  const testkit::Ethernet ethernet = from_pod ? pods_[pod].to_host() : pods_[pod].from_host();
  Step step{.kind = from_pod ? Step::Kind::kFromPod : Step::Kind::kHostToPod, .pod = pod};
  step.from_node = one_in(2);
  if (one_in(20) && transport.bytes.size() > 16) {
    const auto parts =
        testkit::fragments(ethernet, ip, transport, 8 * (1 + below(4)), static_cast<std::uint32_t>(below(8)));
    step.frame = any(parts);
  } else {
    step.frame = testkit::frame(ethernet, ip, transport);
  }
  if (one_in(40)) damage(step.frame);
  return step;
}

const Traffic::Seen& Traffic::any_seen() {
  // The latest more often than others, so that connections go through their states.
  const std::size_t from = one_in(2) ? seen_.size() - std::min<std::size_t>(seen_.size(), 3) : 0;
  return seen_[from + below(seen_.size() - from)];
}

Step Traffic::fresh_packet() {
  const Family family = one_in(2) ? Family::kV4 : Family::kV6;
  const std::size_t pod = below(one_in(50) ? pods_.size() : pods_.size() - 1);
  const bool from_pod = !one_in(5);
  IpAddress near = pods_[pod].address(family);
  if (one_in(20)) near = one_in(2) ? pod_address(family) : outside_address(family);
  IpAddress far = one_in(3) ? outside_address(family) : pod_address(family);
  if (!one_in(3)) far = service_address(family, below(kServiceAddresses));
  const auto near_port = one_in(10) ? any(kBackendPorts) : static_cast<std::uint16_t>(1000 + below(6));
  const auto far_port = one_in(10) ? std::uint16_t{82} : one_in(4) ? any(kBackendPorts) : any(kServicePorts);
  return from_pod ? packet_between(pod, true, ip(near, far), transport(family, near_port, far_port))
                  : packet_between(pod, false, ip(far, near), transport(family, far_port, near_port));
}

testkit::Transport Traffic::transport_like(Family family, std::uint8_t protocol, std::uint16_t source,
                                           std::uint16_t destination) {
  testkit::Transport out = transport(family, source, destination);
  for (int i = 0; i < 16 && out.protocol != protocol; ++i) out = transport(family, source, destination);
  return out;
}

Step Traffic::again() {
  const Seen& seen = any_seen();
  const auto headers = headers_of(seen.step.frame);
  if (!headers || seen.step.frame.size() < headers->transport + 4) return fresh_packet();
  const std::size_t at = headers->transport;
  return packet_between(
      seen.step.pod, seen.step.kind == Step::Kind::kFromPod, ip(headers->source, headers->destination),
      transport_like(headers->family, headers->protocol, get16(seen.step.frame, at), get16(seen.step.frame, at + 2)));
}

Step Traffic::reply() {
  const Seen& seen = any_seen();
  const auto headers = headers_of(seen.frame);
  if (!headers || seen.frame.size() < headers->transport + 4) return fresh_packet();
  const std::size_t at = headers->transport;
  const bool from_pod = seen.receiver.has_value();
  return packet_between(
      from_pod ? *seen.receiver : seen.step.pod, from_pod, ip(headers->destination, headers->source),
      transport_like(headers->family, headers->protocol, get16(seen.frame, at + 2), get16(seen.frame, at)));
}

// What a program left to the host stack, for a pod of this node.
Step Traffic::by_the_stack() {
  const Seen& seen = any_seen();
  const auto headers = headers_of(seen.frame);
  if (!headers) return fresh_packet();
  for (std::size_t i = 0; i < pods_.size(); ++i) {
    if (headers->destination != pods_[i].address(headers->family)) continue;
    Step step{.kind = Step::Kind::kHostToPod, .pod = i, .frame = seen.frame, .service = {}, .entry = {}};
    std::ranges::copy(pods_[i].endpoint.mac, step.frame.begin());
    std::ranges::copy(pods_[i].endpoint.host_mac, step.frame.begin() + 6);
    return step;
  }
  return fresh_packet();
}

// From who has a packet, or from a router on its way, about it as it was before or after translation.
Step Traffic::icmp_error() {
  const Seen& seen = any_seen();
  const Bytes& frame = one_in(4) ? seen.step.frame : seen.frame;
  const auto headers = headers_of(frame);
  if (!headers) return fresh_packet();
  Bytes about(frame.begin() + kEthernet, frame.end());
  if (one_in(2)) about.resize(std::min(about.size(), headers->transport - kEthernet + 8 + below(12)));
  if (one_in(16)) about.resize(below(about.size() + 1));
  const bool v4 = headers->family == Family::kV4;
  static constexpr std::uint8_t kTypes[] = {3, 11, 12};
  static constexpr std::uint8_t kTypes6[] = {1, 2, 3, 4};
  const auto own = static_cast<std::uint32_t>(below(1500));
  const auto code = static_cast<std::uint8_t>(below(5));
  const testkit::Transport error = v4 ? testkit::icmp(any(kTypes), code, testkit::error_rest(about, own))
                                      : testkit::icmp6(any(kTypes6), code, testkit::error_rest(about, own));
  const bool from_pod = seen.receiver.has_value() && !one_in(4);
  const IpAddress router = one_in(3) ? outside_address(headers->family) : headers->destination;
  const IpAddress to = one_in(20) ? pod_address(headers->family) : headers->source;
  return packet_between(from_pod ? *seen.receiver : seen.step.pod, from_pod,
                        ip(from_pod ? headers->destination : router, to), error);
}

Step Traffic::change() {
  const Family family = one_in(2) ? Family::kV4 : Family::kV6;
  const std::size_t address = below(kServiceAddresses);
  const Protocol protocol = any(kProtocols);
  const std::uint16_t port = any(kServicePorts);
  Step step{.kind = one_in(5) ? Step::Kind::kRemove : Step::Kind::kApply, .frame = {}, .service = {}, .entry = {}};
  step.service = fmt::format("{}/{}:{}/{}", static_cast<int>(family), address, static_cast<int>(protocol), port);
  step.entry.frontends = {{service_address(family, address), port, protocol}};
  if (one_in(3)) step.entry.frontends.push_back({service_address(family, kServiceAddresses + address), port, protocol});
  for (std::size_t i = 0; i < kPodsAndOutside; ++i) {
    for (const std::uint16_t backend_port : kBackendPorts) {
      const IpAddress of = i < pods_.size()
                               ? pods_[i].address(family)
                               : ip_of(fmt::format("{}1", family == Family::kV4 ? "192.0.2." : "2001:db8::"));
      if (one_in(4)) {
        step.entry.backends.push_back({of, backend_port});
      } else if (one_in(6)) {
        step.entry.draining.push_back({of, backend_port});
      }
    }
  }
  std::ranges::sort(step.entry.backends);
  std::ranges::sort(step.entry.draining);
  static constexpr std::uint32_t kTimeouts[] = {0, 0, 10, 60, 10'800};
  step.entry.affinity_timeout_s = any(kTimeouts);
  step.entry.balancing = any(kBalancingNames).second;
  return step;
}

// Few identities and ranges of ports, so that rules meet packets.
Step Traffic::policy() {
  Step step{.kind = Step::Kind::kPolicy, .frame = {}, .service = {}, .entry = {}};
  static constexpr datapath::Identity kIdentities[] = {datapath::kOwnNode, 2, 3, 4};
  for (const Family family : {Family::kV4, Family::kV6}) {
    const bool v4 = family == Family::kV4;
    for (const testkit::Pod& pod : pods_) {
      if (!one_in(4)) step.policy.addresses[pod.address(family)] = any(kIdentities);
    }
    if (one_in(2)) step.policy.addresses[ip_of(v4 ? "192.0.2.1" : "2001:db8::1")] = any(kIdentities);
    for (const char* cidr : {v4 ? "0.0.0.0/0" : "::/0", v4 ? "192.0.2.0/24" : "2001:db8::/64",
                             v4 ? "192.0.2.2/31" : "2001:db8::2/127", v4 ? "10.1.0.0/16" : "fd00:10:1::/64"}) {
      if (one_in(2)) step.policy.cidrs[Cidr::parse(cidr).value()] = any(kIdentities);
    }
  }
  static const datapath::PortRange kRanges[] = {{},           {6, 0, 65535},   {6, 80, 81},    {6, 1000, 1003},
                                                {6, 80, 80},  {6, 8080, 8080}, {17, 0, 65535}, {17, 80, 8080},
                                                {17, 81, 81}, {132, 0, 65535}, {132, 80, 80},  {132, 8080, 8081}};
  const auto ranges = [&](std::size_t most) {
    std::vector<datapath::PortRange> out;
    for (std::size_t count = below(most + 1); count > 0; --count) out.push_back(any(kRanges));
    return out;
  };
  for (datapath::RuleSetId number = 1; number <= kRuleSets; ++number) {
    if (one_in(8)) continue;  // a number that is no rule set
    datapath::RuleSet& set = step.policy.rules[number];
    set.any_peer = ranges(one_in(2) ? 0 : 2);
    for (const datapath::Identity identity : {datapath::kWorld, 2U, 3U, 4U}) {
      if (one_in(2)) set.peers[identity] = ranges(4);
    }
  }
  return step;
}

Step Traffic::bind() {
  Step step{.kind = Step::Kind::kBind, .pod = below(pods_.size() - 1), .frame = {}, .service = {}, .entry = {}};
  if (one_in(2)) step.ingress_rules = static_cast<datapath::RuleSetId>(1 + below(kRuleSets));
  if (one_in(2)) step.egress_rules = static_cast<datapath::RuleSetId>(1 + below(kRuleSets));
  return step;
}

Step Traffic::time() {
  static constexpr int kSeconds[] = {1, 2, 5, 10, 20, 60, 110, 300, 700, 4'000, 90'000};
  Step step{.kind = Step::Kind::kTime, .frame = {}, .service = {}, .entry = {}};
  step.time = std::chrono::seconds(any(kSeconds));
  return step;
}

Step Traffic::arp() {
  const std::size_t pod = below(pods_.size());
  const bool from_pod = one_in(2);
  const testkit::Pod& who = pods_[pod];
  testkit::Arp arp{static_cast<std::uint16_t>(1 + below(2)), who.endpoint.mac, who.v4(), {}, pod_address(Family::kV4)};
  if (one_in(3)) arp.sender = pod_address(Family::kV4);
  if (one_in(3)) arp.sender_mac = any(pods_).endpoint.mac;
  if (!from_pod) arp.target = one_in(2) ? who.v4() : arp.target;
  Step step{.kind = from_pod ? Step::Kind::kFromPod : Step::Kind::kHostToPod, .pod = pod};
  step.frame = testkit::frame(from_pod ? who.to_host() : who.from_host(), arp);
  if (one_in(8)) damage(step.frame);
  return step;
}

// Cuts the frame, changes a byte of its headers, or says that it is something else.
void Traffic::damage(Bytes& frame) {
  switch (below(4)) {
    case 0:
      frame.resize(std::max(shortest(frame), below(frame.size() + 1)));
      return;
    case 1: {
      static constexpr std::uint16_t kTypes[] = {0x0800, 0x86dd, 0x0806, 0x8100, 0x88cc};
      testkit::set16(frame, 12, any(kTypes));
      frame.resize(std::max(shortest(frame), frame.size()));
      return;
    }
    default:
      frame[below(std::min<std::size_t>(frame.size(), 80))] = static_cast<std::uint8_t>(random_());
      frame.resize(std::max(shortest(frame), frame.size()));
  }
}

Step Traffic::next() {
  const std::size_t dice = below(1000);
  if (dice < 10) return time();
  if (dice < 40) return change();
  if (dice < 50) return arp();
  // Every other world without policy: there is more to see where nobody is denied.
  if (policed_ && dice < 55) return policy();
  if (policed_ && dice < 65) return bind();
  if (seen_.empty() || dice < 250) return fresh_packet();
  if (dice < 550) return again();
  if (dice < 850) return reply();
  if (dice < 900) return by_the_stack();
  return icmp_error();
}

void Traffic::saw(const Step& step, const Outcome& outcome) {
  const bool from_pod = step.kind == Step::Kind::kFromPod;
  if (outcome.action == TC_ACT_SHOT || !(from_pod || step.kind == Step::Kind::kHostToPod)) return;
  Seen seen{.step = step, .frame = outcome.packet, .receiver = {}};
  if (!from_pod) {
    seen.receiver = step.pod;
  } else if (outcome.action == TC_ACT_REDIRECT) {
    for (std::size_t i = 0; i < pods_.size(); ++i) {
      if (std::ranges::equal(pods_[i].endpoint.mac, std::span(outcome.packet).first(6))) seen.receiver = i;
    }
  }
  seen_.push_back(std::move(seen));
  if (seen_.size() > kRemembered) seen_.pop_front();
}

}  // namespace fairlead::model
