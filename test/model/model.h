// SPDX-License-Identifier: Apache-2.0
// Model: what docs/packet-path.md says becomes of a packet, as plain C++ over values. It shares no line with the BPF
// programs: it was written from the documents, and a test compares the two.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "agent/datapath/load_balancer.h"
#include "agent/datapath/pod_programs.h"
#include "test/model/parse.h"
#include "test/model/services.h"
#include "test/model/verdict.h"

namespace fairlead::model {

// What becomes of one packet.
struct Outcome {
  int action = 0;      // TC_ACT_*
  std::string reason;  // under which it is counted: "forwarded", or a drop's name
  Bytes packet;        // as it goes on, or the answer to it; of a dropped packet it does not matter
};

// One that the rules allow, and what the model has to remember if it is the one that came.
struct Future {
  Outcome outcome;
  std::function<void()> commit = [] {};
};
using Futures = std::vector<Future>;

// Owner and thread: the test. Cost: a few microseconds a packet.
class Model {
 public:
  void upsert(const datapath::PodEndpoint& pod) { pods_[pod.ifindex] = pod; }
  void apply(const std::string& name, const datapath::ServiceEntry& entry) { services_.apply(name, entry); }
  void remove(const std::string& name) { services_.remove(name); }
  // What the policy maps hold. The pods' bindings come with upsert().
  void set_policy(datapath::PolicyContents maps) { policy_ = std::move(maps); }
  // The sweep has looked at every connection.
  void sweep();
  void pass(Time time) { now_ += time; }
  // Whether nothing ends within `margin` of now.
  bool is_clear(Time margin) const;

  // All that may become of a packet: more than one where the data path chooses at random.
  Futures from_pod(std::uint32_t ifindex, const Bytes& frame);
  // `from_node`: the node itself sends it; else it came in by another device.
  Futures host_to_pod(std::uint32_t ifindex, const Bytes& frame, bool from_node);

 private:
  using Pod = datapath::PodEndpoint;

  // The last steps, by direction: on to wherever the destination is; or into the pod, if it is for that.
  struct Delivery {
    bool from_pod = true;
    const Pod* pod = nullptr;
    bool from_node = false;
  };
  // Why a pod that the packet reaches does not let it in; "": it does.
  using Receiver = std::function<std::string(const Pod&)>;
  static std::string let_in(const Pod&) { return {}; }
  Outcome deliver(const Delivery& delivery, Bytes frame, const IpHeaders& ip, const Receiver& receiver = let_in) const;

  // The same after translation, if that can be.
  Outcome rewrite(const Delivery& delivery, Bytes frame, const Packet& packet, const End& source,
                  const End& destination, const Receiver& receiver = let_in) const;

  // Policy: why a side denies, or "".
  std::string ask(const Pod& pod, Side side, const IpAddress& peer, std::uint8_t protocol, std::uint16_t port) const;
  // Of a connection that is about to begin; it remembers who allowed it.
  std::string judge_new(const Delivery& delivery, Connection& c) const;
  // Of one that there is, if the pod's generation is another one by now.
  std::string judge_known(const Pod& pod, Side side, Connection& c) const;
  // Of a packet of one that there is: the pod that sends it, and the pod that it reaches.
  std::string judge_sender(const Pod& pod, const Packet& packet, Connection& c, bool reply) const;
  std::string judge_receiver(const Pod& pod, const Packet& packet, Connection& c, bool reply) const;
  // Of a packet that ends it: the pod that it is on its way to, before it does.
  std::string judge_end(const Delivery& delivery, const Packet& packet, Connection& c, bool reply) const;
  std::string judge_alone(const Pod& pod, Side side, const IpHeaders& ip) const;

  Futures track(const Delivery& delivery, const Bytes& frame, const IpHeaders& ip);
  Futures icmp_error(const Delivery& delivery, const Bytes& frame, const Packet& packet);
  // The packet follows the connection it belongs to.
  Futures follow(const Delivery& delivery, const Bytes& frame, const Packet& packet, const Connections::Found& found);
  // No connection: the packet may begin one.
  Futures begin(const Delivery& delivery, const Bytes& frame, const Packet& packet);
  Futures balance(const Delivery& delivery, const Bytes& frame, const Packet& packet, const std::string& service);
  Future connect(const Delivery& delivery, const Bytes& frame, const Packet& packet, const Connection& connection);
  Connection connection_of(const Packet& packet) const;
  Futures reject(const Bytes& frame, const Packet& packet, std::string reason) const;
  const Pod* pod_with(const IpAddress& address) const;

  std::map<std::uint32_t, Pod> pods_;  // by ifindex
  Services services_;
  Connections connections_;
  Fragments fragments_;
  datapath::PolicyContents policy_;
  Time now_{0};
};

}  // namespace fairlead::model
