// SPDX-License-Identifier: Apache-2.0
// The model's policy: whom a packet has to be asked about, and what a connection remembers of the answer.
#include "test/model/model.h"

namespace fairlead::model {
namespace {

// Goes the way of replies, and answers nothing.
bool is_attempt(const Packet& packet) {
  if (packet.later_fragment) return false;
  return packet.signal == Signal::kSyn || packet.signal == Signal::kInit ||
         (packet.kind == Kind::kQuery && !packet.query_reply);
}

}  // namespace

std::string Model::ask(const Pod& pod, Side side, const IpAddress& peer, std::uint8_t protocol,
                       std::uint16_t port) const {
  const auto rules = (side == Side::kIngress ? pod.ingress : pod.egress).rules;
  if (rules == 0 || allows(policy_, rules, side, peer, protocol, port)) return {};
  return side == Side::kIngress ? "policy_ingress" : "policy_egress";
}

std::string Model::judge_new(const Delivery& delivery, Connection& c) const {
  c.from_node = !delivery.from_pod && delivery.from_node;
  if (c.from_node || c.client.address == c.to.address) return {};
  if (delivery.from_pod) {
    std::string denied = ask(*delivery.pod, Side::kEgress, c.to.address, c.protocol, c.to.port);
    if (!denied.empty()) return denied;
    if (delivery.pod->egress.rules != 0) c.judged[1] = delivery.pod->egress.generation;
  }
  const Pod* server = delivery.from_pod ? pod_with(c.to.address) : delivery.pod;
  if (server == nullptr || server->ingress.rules == 0) return {};
  std::string denied = ask(*server, Side::kIngress, c.from.address, c.protocol, c.to.port);
  if (denied.empty()) c.judged[0] = server->ingress.generation;
  return denied;
}

std::string Model::judge_known(const Pod& pod, Side side, Connection& c) const {
  const auto& binding = side == Side::kIngress ? pod.ingress : pod.egress;
  std::uint32_t& judged = c.judged[side == Side::kIngress ? 0 : 1];
  if (binding.rules == 0 || judged == binding.generation) return {};
  const IpAddress& peer = side == Side::kIngress ? c.from.address : c.to.address;
  std::string denied = c.client.address == c.to.address ? std::string() : ask(pod, side, peer, c.protocol, c.to.port);
  if (denied.empty()) judged = binding.generation;
  return denied;
}

std::string Model::judge_sender(const Pod& pod, const Packet& packet, Connection& c, bool reply) const {
  if (!reply) return judge_known(pod, Side::kEgress, c);
  if (c.from_node) return {};
  if (std::string denied = judge_known(pod, Side::kIngress, c); !denied.empty()) return denied;
  if (!is_attempt(packet) || c.client.address == c.to.address) return {};
  return ask(pod, Side::kEgress, c.client.address, c.protocol, c.client.port);
}

std::string Model::judge_receiver(const Pod& pod, const Packet& packet, Connection& c, bool reply) const {
  if (!reply) return judge_known(pod, Side::kIngress, c);
  if (std::string denied = judge_known(pod, Side::kEgress, c); !denied.empty()) return denied;
  if (!is_attempt(packet) || c.client.address == c.to.address) return {};
  return ask(pod, Side::kIngress, c.to.address, c.protocol, c.client.port);
}

std::string Model::judge_end(const Delivery& delivery, const Packet& packet, Connection& c, bool reply) const {
  if (c.from_node || (!delivery.from_pod && delivery.from_node)) return {};
  const Pod* pod = pod_with(reply ? c.client.address : c.to.address);
  return pod == nullptr ? std::string() : judge_receiver(*pod, packet, c, reply);
}

// What belongs to no connection; nobody is kept from himself.
std::string Model::judge_alone(const Pod& pod, Side side, const IpHeaders& ip) const {
  if (ip.source == ip.destination) return {};
  return ask(pod, side, side == Side::kIngress ? ip.source : ip.destination, ip.protocol, 0);
}

}  // namespace fairlead::model
