// SPDX-License-Identifier: Apache-2.0
// Ports of the node that pods take, and which pod has them: the rule of the scheduler's NodePorts.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "agent/base/ip.h"
#include "agent/base/loop.h"

namespace k8s {
class Pod;
class PodSpec;
}  // namespace k8s

namespace fairlead::pods {

struct HostPort {
  std::string ip;  // as the pod writes it; empty: every address
  std::uint16_t port = 0;
  std::uint16_t container_port = 0;
  Protocol protocol = Protocol::kTcp;
  auto operator<=>(const HostPort&) const = default;
  std::string str() const;  // "10.0.0.1:80/TCP", "*:80/TCP"
};

// What the pod's containers take, on its own network or the host's. A protocol that is none is left out: validation has
// refused it.
std::vector<HostPort> host_ports(const k8s::PodSpec& spec);

// Whether both cannot be on one node: one protocol and port, on one address or all.
bool collide(const HostPort& a, const HostPort& b);

// Which pods have their host ports. A pod that has run keeps them; of others the older one gets them, as far as they
// are free, and each is decided only when every pod that they collide with has been looked at, so that an agent that
// starts takes nothing from a pod that runs. Owner: Pods. Thread: its loop. Cost: a look at each port of each pod.
class HostPortAdmission {
 public:
  enum class Answer { kAdmitted, kWait, kRefused };
  struct Verdict {
    Answer answer = Answer::kAdmitted;
    std::string why;  // kRefused: the port, and whose it is
  };

  explicit HostPortAdmission(Loop& loop) : loop_(loop) {}

  // A pod that is to run, not looked at yet. `uid` is new.
  void enter(const std::string& uid, const k8s::Pod& pod);
  // The pod has been looked at; `ran`: the runtime has something of it. After kWait `again` is called on the loop,
  // once, when the answer may be another; a refusal stands. A pod that did not enter is admitted.
  Verdict ask(const std::string& uid, bool ran, std::function<void()> again);
  // It needs no ports any more. Unknown is done.
  void leave(const std::string& uid);

 private:
  enum class State { kUnseen, kWaiting, kHolds };
  struct Entry {
    std::string name;  // "namespace/name"
    std::vector<HostPort> ports;
    std::pair<std::int64_t, std::uint64_t> order;  // time of creation, then of coming here
    State state = State::kUnseen;
    std::function<void()> again = {};
  };
  void tell_waiting();

  Loop& loop_;
  std::map<std::string, Entry> entries_;  // by uid, only those that take ports
  std::uint64_t arrivals_ = 0;
};

}  // namespace fairlead::pods
