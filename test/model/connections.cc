// SPDX-License-Identifier: Apache-2.0
#include "test/model/connections.h"

#include <array>

namespace fairlead::model {
namespace {

using namespace std::chrono_literals;

// The state after a packet, as the tables of the document say.
State next_tcp(const Connection& c, Signal signal, Direction direction) {
  const bool original = direction == Direction::kOriginal;
  const bool closer = direction == c.closer;
  switch (signal) {
    case Signal::kRst:
      return State::kClosed;
    case Signal::kSynAck:
      if (c.state == State::kSynSent && !original) return State::kSynReceived;
      if (c.state == State::kSynReceived && original) return State::kEstablished;
      return c.state;
    case Signal::kSyn:
      return c.state == State::kSynSent && !original ? State::kSynReceived : c.state;
    case Signal::kFin:
      if (c.state == State::kSynReceived || c.state == State::kEstablished || c.state == State::kUnacknowledged)
        return State::kFinWait;
      if ((c.state == State::kFinWait || c.state == State::kCloseWait) && !closer) return State::kLastAck;
      return c.state;
    case Signal::kAck:
      if (c.state == State::kSynReceived && original) return State::kEstablished;
      if (c.state == State::kUnacknowledged && !original) return State::kEstablished;
      if (c.state == State::kClosed && closer) return State::kEstablished;
      if (c.state == State::kFinWait && !closer) return State::kCloseWait;
      if (c.state == State::kLastAck && closer) return State::kTimeWait;
      return c.state;
    default:
      return c.state;
  }
}

State next_sctp(const Connection& c, Signal signal, Direction direction) {
  const bool original = direction == Direction::kOriginal;
  const bool waiting = c.state == State::kCookieWait || c.state == State::kCookieEchoed;
  switch (signal) {
    case Signal::kAbort:
    case Signal::kShutdownComplete:
      return State::kSctpClosed;
    case Signal::kCookieEcho:
      return c.state == State::kCookieWait && original ? State::kCookieEchoed : c.state;
    case Signal::kCookieAck:
      return waiting && !original ? State::kSctpEstablished : c.state;
    case Signal::kShutdown:
      return waiting || c.state == State::kSctpEstablished ? State::kShutdown : c.state;
    default:
      return c.state;
  }
}

}  // namespace

Time time_out(State state) {
  switch (state) {
    case State::kSynSent:
    case State::kFinWait:
    case State::kTimeWait:
    case State::kUdpStream:
      return 120s;
    case State::kSynReceived:
      return 60s;
    case State::kEstablished:
      return 24h;
    case State::kCloseWait:
      return 1h;
    case State::kLastAck:
    case State::kUdpUnreplied:
    case State::kEcho:
      return 30s;
    case State::kClosed:
    case State::kSctpClosed:
      return 10s;
    case State::kUnacknowledged:
      return 300s;
    case State::kCookieWait:
    case State::kCookieEchoed:
    case State::kShutdown:
      return 3s;
    case State::kSctpEstablished:
      return 210s;
    case State::kGeneric:
      return 600s;
  }
  return {};
}

State first_state(Kind kind, Signal signal) {
  switch (kind) {
    case Kind::kTcp:
      return signal == Signal::kSyn ? State::kSynSent : State::kUnacknowledged;
    case Kind::kUdp:
      return State::kUdpUnreplied;
    case Kind::kSctp:
      return signal == Signal::kInit ? State::kCookieWait : State::kSctpEstablished;
    case Kind::kQuery:
      return State::kEcho;
    case Kind::kOther:
      return State::kGeneric;
  }
  return State::kGeneric;
}

bool begins_anew(const Connection& c, Signal signal, Form form) {
  if (form != Form::kFirst && (c.translated() || form != Form::kReply)) return false;
  if (signal == Signal::kSyn)
    return c.state == State::kTimeWait || c.state == State::kClosed || c.state == State::kUnacknowledged;
  if (signal == Signal::kInit) return c.state == State::kShutdown || c.state == State::kSctpClosed;
  return false;
}

void move(Connection& c, Signal signal, Direction direction, Time now) {
  State next = c.state;
  if (c.kind == Kind::kTcp) next = next_tcp(c, signal, direction);
  if (c.kind == Kind::kSctp) next = next_sctp(c, signal, direction);
  if (c.kind == Kind::kUdp && direction == Direction::kReply) next = State::kUdpStream;
  if (signal == Signal::kRst || (next == State::kFinWait && c.state != State::kFinWait)) c.closer = direction;
  c.state = next;
  c.deadline = now + time_out(next);
}

Connections::Key Connections::key_of(const End& a, const End& b, std::uint8_t protocol) {
  return a < b ? Key{a, b, protocol} : Key{b, a, protocol};
}

std::optional<Connections::Found> Connections::find(const Tuple& tuple, Time now, Order order) {
  const auto at = keys_.find(key_of(tuple.source, tuple.destination, tuple.protocol));
  if (at == keys_.end()) return std::nullopt;
  Connection& c = connections_.at(at->second);
  if (c.deadline <= now) return std::nullopt;
  const auto goes = [&](const End& source, const End& destination) {
    return tuple.source == source && tuple.destination == destination;
  };
  static constexpr std::array kPacketOrder{Form::kFirst, Form::kReply, Form::kFirstTranslated, Form::kReplyTranslated};
  static constexpr std::array kErrorOrder{Form::kFirstTranslated, Form::kReplyTranslated, Form::kFirst, Form::kReply};
  for (const Form form : order == Order::kPacket ? kPacketOrder : kErrorOrder) {
    const bool is = form == Form::kFirst             ? goes(c.client, c.server)
                    : form == Form::kReply           ? goes(c.to, c.from)
                    : !c.translated()                ? false
                    : form == Form::kFirstTranslated ? goes(c.from, c.to)
                                                     : goes(c.server, c.client);
    if (is) return Found{at->second, &c, form};
  }
  return std::nullopt;
}

bool Connections::may_give_way(const Connection& holder, Time now) const {
  return holder.deadline <= now || holder.state == State::kTimeWait || holder.state == State::kClosed ||
         holder.state == State::kSctpClosed;
}

bool Connections::has_room_for(const Connection& connection, Time now) const {
  for (const Key& key : {client_key(connection), server_key(connection)}) {
    const auto holder = keys_.find(key);
    if (holder != keys_.end() && !may_give_way(connections_.at(holder->second), now)) return false;
  }
  return true;
}

void Connections::add(const Connection& connection) {
  for (const Key& key : {client_key(connection), server_key(connection)}) {
    if (const auto holder = keys_.find(key); holder != keys_.end()) end(holder->second);
  }
  keys_[client_key(connection)] = next_;
  keys_[server_key(connection)] = next_;
  connections_[next_++] = connection;
}

void Connections::end(Id id) {
  const auto at = connections_.find(id);
  keys_.erase(client_key(at->second));
  keys_.erase(server_key(at->second));
  connections_.erase(at);
}

void Connections::end_where(const std::function<bool(const Connection&)>& ends) {
  for (auto at = connections_.begin(); at != connections_.end();) {
    const auto& [id, connection] = *at++;
    if (ends(connection)) end(id);
  }
}

bool Connections::is_clear(Time now, Time margin) const {
  for (const auto& [id, connection] : connections_) {
    if (connection.deadline >= now - margin && connection.deadline <= now + margin) return false;
  }
  return true;
}

}  // namespace fairlead::model
