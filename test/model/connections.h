// SPDX-License-Identifier: Apache-2.0
// Connections: what docs/packet-path.md says of connections, in a map that knows nothing of slots and generations.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "agent/base/ip.h"

namespace fairlead::model {

using Time = std::chrono::milliseconds;  // on the model's own clock

struct End {
  IpAddress address;
  std::uint16_t port = 0;
  auto operator<=>(const End&) const = default;
};

// What a protocol's packets have for ports, and which states it has.
enum class Kind { kTcp, kUdp, kSctp, kQuery, kOther };

// What a packet says of who sends it to whom.
struct Tuple {
  End source;
  End destination;
  std::uint8_t protocol = 0;
};

enum class State {
  kSynSent,
  kSynReceived,
  kEstablished,
  kFinWait,
  kCloseWait,
  kLastAck,
  kTimeWait,
  kClosed,
  kUnacknowledged,
  kUdpUnreplied,
  kUdpStream,
  kCookieWait,
  kCookieEchoed,
  kSctpEstablished,
  kShutdown,
  kSctpClosed,
  kEcho,
  kGeneric,
};

// What a packet is to its protocol's states.
enum class Signal {
  kNone,
  // TCP.
  kRst,
  kSynAck,
  kSyn,
  kFin,
  kAck,
  // SCTP, by the first chunk.
  kInit,
  kAbort,
  kShutdown,
  kShutdownComplete,
  kCookieEcho,
  kCookieAck,
};

enum class Direction { kOriginal, kReply };

// How a packet is part of a connection, numbered as in the document.
enum class Form { kFirst = 1, kReply = 2, kFirstTranslated = 3, kReplyTranslated = 4 };

// A backend as a connection remembers it: of which Service, and of which of its lives there.
struct BackendLife {
  std::string service;
  std::uint64_t life = 0;
};

struct Connection {
  End client;
  End server;
  End from;
  End to;
  std::uint8_t protocol = 0;
  Kind kind = Kind::kOther;
  State state = State::kGeneric;
  Direction closer = Direction::kOriginal;
  Time deadline{0};
  std::optional<BackendLife> backend;
  bool from_node = false;     // the node itself began it
  std::uint32_t judged[2]{};  // by Side: the generation under which that side allowed it; 0: it was not asked

  bool translated() const { return client != from || server != to; }
};

// How long a state lasts without a packet; what nf_conntrack does by default.
Time time_out(State state);

// The state in which a packet begins a connection.
State first_state(Kind kind, Signal signal);
// Whether the packet ends an old connection of the same ends and begins another.
bool begins_anew(const Connection& connection, Signal signal, Form form);
// Lets a packet of form 1 or 2 happen to the connection.
void move(Connection& connection, Signal signal, Direction direction, Time now);

// Owner and thread: the model.
class Connections {
 public:
  using Id = std::uint64_t;

  struct Found {
    Id id = 0;
    Connection* connection = nullptr;
    Form form = Form::kFirst;
  };
  // The living connection of which a packet with this tuple is part; forms in the given order.
  enum class Order { kPacket, kIcmpError };
  std::optional<Found> find(const Tuple& tuple, Time now, Order order = Order::kPacket);

  // Whether `connection` could be added: no other living one's packets look the same.
  bool has_room_for(const Connection& connection, Time now) const;
  // Adds it; those that stood in its way and may end, end.
  void add(const Connection& connection);
  void end(Id id);
  void end_where(const std::function<bool(const Connection&)>& ends);

  // Whether the ends of all lives are clear at `now`: none falls between `now` and `now + margin`.
  bool is_clear(Time now, Time margin) const;

 private:
  // Both ends, in an order that both directions give.
  struct Key {
    End low;
    End high;
    std::uint8_t protocol = 0;
    auto operator<=>(const Key&) const = default;
  };
  static Key key_of(const End& a, const End& b, std::uint8_t protocol);
  static Key client_key(const Connection& c) { return key_of(c.client, c.server, c.protocol); }
  static Key server_key(const Connection& c) { return key_of(c.from, c.to, c.protocol); }
  bool may_give_way(const Connection& holder, Time now) const;

  std::map<Id, Connection> connections_;
  std::map<Key, Id> keys_;
  Id next_ = 1;
};

}  // namespace fairlead::model
