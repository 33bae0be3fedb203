// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/host_ports.h"

#include <k8s/pod.pb.h>
#include <spdlog/fmt/fmt.h>

#include <algorithm>

#include "agent/pods/pod_spec.h"

namespace fairlead::pods {
namespace {

bool is_any(const std::string& ip) {
  return ip.empty() || ip == "0.0.0.0";
}

// The first ports of two pods that collide; nullptr: none do.
const HostPort* first_collision(const std::vector<HostPort>& wanted, const std::vector<HostPort>& taken) {
  for (const HostPort& want : wanted) {
    if (std::ranges::any_of(taken, [&](const HostPort& have) { return collide(want, have); })) return &want;
  }
  return nullptr;
}

}  // namespace

std::string HostPort::str() const {
  const std::string address = ip.empty() ? "*" : ip.contains(':') ? "[" + ip + "]" : ip;
  return fmt::format("{}:{}/{}", address, port, to_string(protocol));
}

std::vector<HostPort> host_ports(const k8s::PodSpec& spec) {
  std::vector<HostPort> ports;
  for (const k8s::Container* container : lasting_containers(spec)) {
    for (const auto& port : container->ports()) {
      const auto protocol = parse_protocol(port.protocol());
      if (port.hostport() <= 0 || !protocol) continue;
      ports.push_back({.ip = port.hostip(),
                       .port = static_cast<std::uint16_t>(port.hostport()),
                       .container_port = static_cast<std::uint16_t>(port.containerport()),
                       .protocol = *protocol});
    }
  }
  return ports;
}

bool collide(const HostPort& a, const HostPort& b) {
  if (a.port != b.port || a.protocol != b.protocol) return false;
  return a.ip == b.ip || is_any(a.ip) || is_any(b.ip);
}

void HostPortAdmission::enter(const std::string& uid, const k8s::Pod& pod) {
  std::vector<HostPort> ports = host_ports(pod.spec());
  if (ports.empty()) return;
  const auto& meta = pod.metadata();
  entries_[uid] = {.name = meta.namespace_() + "/" + meta.name(),
                   .ports = std::move(ports),
                   .order = {meta.creationtimestamp().seconds(), arrivals_++}};
}

HostPortAdmission::Verdict HostPortAdmission::ask(const std::string& uid, bool ran, std::function<void()> again) {
  const auto own = entries_.find(uid);
  if (own == entries_.end() || own->second.state == State::kHolds) return {};
  Entry& entry = own->second;
  const bool news = entry.state == State::kUnseen;
  bool waits = false;
  if (!ran) {
    for (const auto& [other_uid, other] : entries_) {
      const HostPort* port = other_uid == uid ? nullptr : first_collision(entry.ports, other.ports);
      if (port == nullptr) continue;
      if (other.state == State::kHolds) {
        Verdict refused{Answer::kRefused, fmt::format("{} is pod {}'s", port->str(), other.name)};
        leave(uid);
        return refused;
      }
      waits |= other.state == State::kUnseen || other.order < entry.order;
    }
  }
  entry.state = waits ? State::kWaiting : State::kHolds;
  entry.again = {};
  if (news || !waits) tell_waiting();
  if (waits) entry.again = std::move(again);
  return {waits ? Answer::kWait : Answer::kAdmitted, ""};
}

void HostPortAdmission::leave(const std::string& uid) {
  if (entries_.erase(uid) != 0) tell_waiting();
}

void HostPortAdmission::tell_waiting() {
  for (auto& [uid, entry] : entries_) {
    if (entry.again) loop_.post(std::exchange(entry.again, {}));
  }
}

}  // namespace fairlead::pods
