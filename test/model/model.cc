// SPDX-License-Identifier: Apache-2.0
#include "test/model/model.h"

#include <linux/pkt_cls.h>

#include <algorithm>

#include "test/model/rewrite.h"

namespace fairlead::model {
namespace {

constexpr std::size_t kEthernet = 14;
constexpr std::uint16_t kIpv4 = 0x0800, kIpv6 = 0x86dd, kArp = 0x0806;

Futures drop(std::string reason) {
  return {{{TC_ACT_SHOT, std::move(reason), {}}}};
}

// On to whatever comes after the program, as it is.
Futures go_on(const Bytes& frame) {
  return {{{TC_ACT_OK, "forwarded", frame}}};
}

Mac mac_at(const Bytes& frame, std::size_t at) {
  Mac out{};
  std::copy_n(frame.begin() + static_cast<std::ptrdiff_t>(at), out.size(), out.begin());
  return out;
}

bool has(const datapath::PodEndpoint& pod, const IpAddress& address) {
  return std::ranges::count(pod.addresses, address) != 0;
}

// An ARP packet for IPv4 over Ethernet whose fields are all there.
bool is_arp(const Bytes& frame) {
  return frame.size() >= kEthernet + 28 && get16(frame, 16) == kIpv4 && frame[18] == 6 && frame[19] == 4;
}

IpAddress v4_at(const Bytes& frame, std::size_t at) {
  return IpAddress::from_v4({frame[at], frame[at + 1], frame[at + 2], frame[at + 3]});
}

// Destinations that no packet is translated or tracked to: all ones, multicast, link-local.
bool is_untracked_destination(const IpAddress& address) {
  static const IpAddress kBroadcast = IpAddress::from_v4({255, 255, 255, 255});
  return address.is_multicast() || address == kBroadcast || (!address.is_v4() && address.is_link_local());
}

// Ends something for good, whatever Service the packet is for.
bool is_last_word(Signal signal) {
  return signal == Signal::kRst || signal == Signal::kAbort || signal == Signal::kShutdownComplete;
}

// After it, its connection is over soon.
bool ends(Signal signal) {
  return is_last_word(signal) || signal == Signal::kFin || signal == Signal::kShutdown;
}

}  // namespace

const Model::Pod* Model::pod_with(const IpAddress& address) const {
  for (const auto& [ifindex, pod] : pods_) {
    if (has(pod, address)) return &pod;
  }
  return nullptr;
}

void Model::sweep() {
  connections_.end_where([this](const Connection& c) {
    return c.kind == Kind::kUdp && c.backend && services_.is_gone(*c.backend, c.kind);
  });
}

bool Model::is_clear(Time margin) const {
  return connections_.is_clear(now_, margin) && fragments_.is_clear(now_, margin) && services_.is_clear(now_, margin);
}

Futures Model::from_pod(std::uint32_t ifindex, const Bytes& frame) {
  const auto at = pods_.find(ifindex);
  if (at == pods_.end()) return drop("no_endpoint");
  const Pod& from = at->second;
  if (mac_at(frame, 6) != from.mac) return drop("source_mac");
  const std::uint16_t ethertype = get16(frame, 12);
  if (ethertype == kArp) {
    if (!is_arp(frame)) return drop("malformed");
    if (mac_at(frame, 22) != from.mac) return drop("source_mac");
    return has(from, v4_at(frame, 28)) ? go_on(frame) : drop("source_address");
  }
  if (ethertype != kIpv4 && ethertype != kIpv6) return drop("protocol");
  const auto base = base_header(frame, kEthernet, ethertype == kIpv4 ? Family::kV4 : Family::kV6);
  if (!base) return drop("malformed");
  if (base->family == Family::kV6 && base->source.is_unspecified()) {
    const bool speaks_unaddressed = base->protocol == 58 || base->protocol == 0;
    return base->destination.is_multicast() && speaks_unaddressed ? go_on(frame) : drop("source_address");
  }
  if (base->source == link_local_of(from.mac)) return go_on(frame);
  if (!has(from, base->source)) return drop("source_address");
  if (mac_at(frame, 0) != from.host_mac || is_untracked_destination(base->destination)) return go_on(frame);
  const auto ip = ip_headers(frame, kEthernet, base->family);
  if (!ip) return drop("malformed");
  return track({.from_pod = true, .pod = &from}, frame, *ip);
}

Futures Model::host_to_pod(std::uint32_t ifindex, const Bytes& frame, bool from_node) {
  const auto at = pods_.find(ifindex);
  if (at == pods_.end()) return drop("no_endpoint");
  const Pod& to = at->second;
  const std::uint16_t ethertype = get16(frame, 12);
  if (ethertype == kArp) {
    if (!is_arp(frame)) return drop("malformed");
    return has(to, v4_at(frame, 38)) ? go_on(frame) : drop("destination");
  }
  if (ethertype != kIpv4 && ethertype != kIpv6) return drop("protocol");
  const auto ip = ip_headers(frame, kEthernet, ethertype == kIpv4 ? Family::kV4 : Family::kV6);
  if (!ip) return drop("malformed");
  const Delivery delivery{.from_pod = false, .pod = &to, .from_node = from_node};
  if (is_untracked_destination(ip->destination) || (!ip->source.is_v4() && ip->source.is_link_local())) {
    return {{deliver(delivery, frame, *ip, [&](const Pod& pod) { return judge_alone(pod, Side::kIngress, *ip); })}};
  }
  return track(delivery, frame, *ip);
}

Outcome Model::deliver(const Delivery& delivery, Bytes frame, const IpHeaders& ip, const Receiver& receiver) const {
  const IpHeaders now = *base_header(frame, ip.ip, ip.family);  // its addresses may be others by now
  if (!delivery.from_pod) {
    const Pod& to = *delivery.pod;
    const bool own = has(to, now.destination) || now.destination == link_local_of(to.mac) ||
                     (!now.destination.is_v4() && now.destination.is_multicast());
    if (!own) return {TC_ACT_SHOT, "destination", {}};
    if (!delivery.from_node) {
      if (std::string denied = receiver(to); !denied.empty()) return {TC_ACT_SHOT, std::move(denied), {}};
    }
    return {TC_ACT_OK, "forwarded", std::move(frame)};
  }
  const Pod* to = pod_with(now.destination);
  if (to == nullptr || now.ttl <= 1) return {TC_ACT_OK, "forwarded", std::move(frame)};
  if (std::string denied = receiver(*to); !denied.empty()) return {TC_ACT_SHOT, std::move(denied), {}};
  route(frame, now, to->mac, to->host_mac);
  return {TC_ACT_REDIRECT, "forwarded", std::move(frame)};
}

Futures Model::track(const Delivery& delivery, const Bytes& frame, const IpHeaders& ip) {
  const auto packet = parse(frame, ip, fragments_, now_);
  if (!packet) return drop(packet.error());
  if (packet->untracked) {
    if (delivery.from_pod) {
      if (std::string denied = judge_alone(*delivery.pod, Side::kEgress, ip); !denied.empty()) return drop(denied);
    }
    return {{deliver(delivery, frame, ip, [&](const Pod& pod) { return judge_alone(pod, Side::kIngress, ip); })}};
  }
  if (packet->icmp_error) return icmp_error(delivery, frame, *packet);
  const auto found = connections_.find(packet->tuple, now_);
  if (!found) return begin(delivery, frame, *packet);
  return follow(delivery, frame, *packet, *found);
}

Futures Model::icmp_error(const Delivery& delivery, const Bytes& frame, const Packet& packet) {
  const auto inner = parse_inner(frame, packet.ip.transport + 8, packet.ip.family);
  if (!inner || inner->ip.source != packet.ip.destination) return drop("icmp_error");
  const auto found = connections_.find(inner->tuple, now_, Connections::Order::kIcmpError);
  if (!found) return drop("icmp_error");
  const Connection& c = *found->connection;
  Bytes out = frame;
  const IpAddress& source = packet.ip.source;
  if (found->form == Form::kFirstTranslated) {
    translate_inner(out, packet, *inner, c.client, c.server);
    translate_error(out, packet, source == c.to.address ? c.server.address : source, c.client.address);
  } else if (found->form == Form::kReplyTranslated) {
    translate_inner(out, packet, *inner, c.to, c.from);
    translate_error(out, packet, source == c.client.address ? c.from.address : source, c.to.address);
  }
  return {{deliver(delivery, std::move(out), packet.ip)}};
}

Futures Model::follow(const Delivery& delivery, const Bytes& frame, const Packet& packet,
                      const Connections::Found& found) {
  if (found.form == Form::kFirstTranslated || found.form == Form::kReplyTranslated) {
    // From a pod it is another connection's, whose packets look the same.
    if (delivery.from_pod) return begin(delivery, frame, packet);
    return {{deliver(delivery, frame, packet.ip, [&](const Pod& pod) {
      return judge_receiver(pod, packet, *found.connection, found.form == Form::kReplyTranslated);
    })}};
  }
  Connection& c = *found.connection;
  const Signal signal = packet.later_fragment ? Signal::kNone : packet.signal;
  if (ends(signal) || begins_anew(c, signal, found.form)) {
    std::string denied = judge_end(delivery, packet, c, found.form == Form::kReply);
    if (!denied.empty()) return drop(denied);
  }
  if (found.form == Form::kFirst && c.backend && services_.is_gone(*c.backend, c.kind)) {
    const bool picks_again = c.kind == Kind::kUdp || signal == Signal::kSyn || signal == Signal::kInit;
    connections_.end(found.id);
    if (packet.later_fragment) return drop("fragment");
    if (picks_again) return begin(delivery, frame, packet);
    return delivery.from_pod && !is_last_word(signal) ? reject(frame, packet, "backend_gone") : drop("backend_gone");
  }
  if (begins_anew(c, signal, found.form)) {
    connections_.end(found.id);
    return begin(delivery, frame, packet);
  }
  const bool original = found.form == Form::kFirst;
  if (delivery.from_pod) {
    if (std::string denied = judge_sender(*delivery.pod, packet, c, !original); !denied.empty()) return drop(denied);
  }
  const Receiver receiver = [&](const Pod& pod) { return judge_receiver(pod, packet, c, !original); };
  move(c, signal, original ? Direction::kOriginal : Direction::kReply, now_);
  if (!c.translated()) return {{deliver(delivery, frame, packet.ip, receiver)}};
  return {{rewrite(delivery, frame, packet, original ? c.from : c.server, original ? c.to : c.client, receiver)}};
}

Outcome Model::rewrite(const Delivery& delivery, Bytes frame, const Packet& packet, const End& source,
                       const End& destination, const Receiver& receiver) const {
  if (!translate(frame, packet, source, destination)) return {TC_ACT_SHOT, "translation", {}};
  return deliver(delivery, std::move(frame), packet.ip, receiver);
}

Connection Model::connection_of(const Packet& packet) const {
  const State state = first_state(packet.kind, packet.signal);
  return {.client = packet.tuple.source,
          .server = packet.tuple.destination,
          .from = packet.tuple.source,
          .to = packet.tuple.destination,
          .protocol = packet.tuple.protocol,
          .kind = packet.kind,
          .state = state,
          .deadline = now_ + time_out(state),
          .backend = {}};
}

Futures Model::begin(const Delivery& delivery, const Bytes& frame, const Packet& packet) {
  if (!delivery.from_pod) {
    if (const Outcome outcome = deliver(delivery, frame, packet.ip); outcome.action == TC_ACT_SHOT) return {{outcome}};
  }
  if (packet.later_fragment) return drop("fragment");
  const End& destination = packet.tuple.destination;
  const auto service =
      delivery.from_pod ? services_.find(destination, packet.tuple.protocol) : std::optional<std::string>();
  if (service && is_last_word(packet.signal)) return drop("no_connection");
  if (service) return balance(delivery, frame, packet, *service);
  if (delivery.from_pod && services_.has_address(destination.address)) return reject(frame, packet, "no_service_port");
  Connection connection = connection_of(packet);
  if (std::string denied = judge_new(delivery, connection); !denied.empty()) return drop(denied);
  if (packet.query_reply) return drop("no_connection");
  if (is_last_word(packet.signal)) return {{deliver(delivery, frame, packet.ip)}};
  return {connect(delivery, frame, packet, connection)};
}

Futures Model::balance(const Delivery& delivery, const Bytes& frame, const Packet& packet, const std::string& service) {
  const bool begins = packet.kind == Kind::kUdp || packet.signal == Signal::kSyn || packet.signal == Signal::kInit;
  if (!begins) return reject(frame, packet, "no_connection");
  if (!services_.has_backends(service)) return reject(frame, packet, "no_backend");
  const IpAddress& client = packet.tuple.source.address;
  Futures futures;
  for (const Choice& choice : services_.choices(service, client, now_)) {
    Connection connection = connection_of(packet);
    connection.backend = choice.life;
    connection.to = choice.end;
    if (choice.end.address == client) connection.from.address = packet.tuple.destination.address;  // hairpin
    std::string denied = judge_new(delivery, connection);
    Future future =
        denied.empty() ? connect(delivery, frame, packet, connection) : Future{{TC_ACT_SHOT, std::move(denied), {}}};
    future.commit = [this, choice, client, commit = std::move(future.commit)] {
      services_.chosen(choice, client, now_);
      commit();
    };
    futures.push_back(std::move(future));
  }
  return futures;
}

Future Model::connect(const Delivery& delivery, const Bytes& frame, const Packet& packet,
                      const Connection& connection) {
  if (!connections_.has_room_for(connection, now_)) return {{TC_ACT_SHOT, "tuple_taken", {}}};
  return {connection.translated() ? rewrite(delivery, frame, packet, connection.from, connection.to)
                                  : deliver(delivery, frame, packet.ip),
          [this, connection] { connections_.add(connection); }};
}

Futures Model::reject(const Bytes& frame, const Packet& packet, std::string reason) const {
  if (auto back = answer(frame, packet)) return {{{TC_ACT_REDIRECT, std::move(reason), std::move(*back)}}};
  return drop(std::move(reason));
}

}  // namespace fairlead::model
