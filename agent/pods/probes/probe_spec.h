// SPDX-License-Identifier: Apache-2.0
// What a probe does and when it counts: plain values and pure functions.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/ip.h"
#include "agent/base/result.h"

namespace k8s {
class Container;
class Probe;
}  // namespace k8s

namespace fairlead::pods {

struct HttpGet {
  IpAddress address;
  std::uint16_t port = 0;
  std::string path;  // with its query, "/" at least
  std::vector<std::pair<std::string, std::string>> headers;
  bool tls = false;
  bool operator==(const HttpGet&) const = default;
};

struct TcpConnect {
  IpAddress address;
  std::uint16_t port = 0;
  bool operator==(const TcpConnect&) const = default;
};

struct ExecCommand {
  std::vector<std::string> command;
  bool operator==(const ExecCommand&) const = default;
};

// grpc.health.v1.Health/Check.
struct GrpcCheck {
  IpAddress address;
  std::uint16_t port = 0;
  std::string service;
  bool operator==(const GrpcCheck&) const = default;
};

struct ProbeSpec {
  std::variant<HttpGet, TcpConnect, ExecCommand, GrpcCheck> action;
  Duration initial_delay{};
  Duration period = std::chrono::seconds(10);
  Duration timeout = std::chrono::seconds(1);
  int success_threshold = 1;
  int failure_threshold = 3;
  bool operator==(const ProbeSpec&) const = default;
};

// A probe of `container`, named ports resolved, absent numbers as the API defaults them; `pod_ip` is where it goes
// unless the probe names a host. Errors (kInvalid) name the field: what we cannot do is refused here (a host that
// is a name).
Result<ProbeSpec> make_probe_spec(const k8s::Probe& probe, const k8s::Container& container, const IpAddress& pod_ip);

// The bytes of the request, CRLF and all.
std::string http_request(const HttpGet& get);

// How far the results of one probe have got.
struct ProbeState {
  std::optional<bool> result;  // what is in force; nullopt before the first decision
  std::optional<bool> last;    // the latest attempt
  int run = 0;                 // how many in a row were like it
  bool operator==(const ProbeState&) const = default;
};

// The state after an attempt: the result in force turns once a run is as long as its threshold.
ProbeState step(const ProbeSpec& spec, ProbeState state, bool success);

// How long to wait before the first attempt on a container that has been running for `running_for`. Within a period of
// its due time: what is left. Later (an adopted container): `random` (0 to 1) of a period, so that an agent that starts
// does not probe a whole node at once.
Duration first_delay(const ProbeSpec& spec, Duration running_for, double random);

}  // namespace fairlead::pods
