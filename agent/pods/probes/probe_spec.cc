// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/probes/probe_spec.h"

#include <k8s/pod.pb.h>
#include <strings.h>

#include <algorithm>

namespace fairlead::pods {

namespace {

constexpr std::int64_t kIntOrStringIsText = 1;
constexpr std::int64_t kMaxPort = 65535;

Result<std::uint16_t> resolve_port(const k8s::IntOrString& port, const k8s::Container& container,
                                   std::string_view field) {
  std::int64_t number = port.intval();
  if (port.type() == kIntOrStringIsText) {
    const auto& ports = container.ports();
    const auto named = std::ranges::find(ports, port.strval(), &k8s::ContainerPort::name);
    if (named == ports.end()) {
      return fail(Code::kInvalid, "{}.port: container {} has no port named '{}'", field, container.name(),
                  port.strval());
    }
    number = named->containerport();
  }
  if (number < 1 || number > kMaxPort) return fail(Code::kInvalid, "{}.port: {} is not a port", field, number);
  return static_cast<std::uint16_t>(number);
}

Result<IpAddress> resolve_host(const std::string& host, const IpAddress& pod_ip, std::string_view field) {
  if (host.empty()) return pod_ip;
  auto address = IpAddress::parse(host);
  if (!address) return fail(Code::kInvalid, "{}.host: '{}' is not an IP address; names are not looked up", field, host);
  return address;
}

// No byte that would end a line or a word of the request.
bool is_clean(std::string_view text, bool blanks) {
  return std::ranges::none_of(text, [blanks](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return (byte < 0x20 && !(blanks && c == '\t')) || byte == 0x7f || (c == ' ' && !blanks);
  });
}

Result<HttpGet> make_http(const k8s::HTTPGetAction& action, const k8s::Container& container, const IpAddress& pod_ip) {
  if (!action.scheme().empty() && action.scheme() != "HTTP" && action.scheme() != "HTTPS") {
    return fail(Code::kInvalid, "httpGet.scheme: {} is not supported", action.scheme());
  }
  if (!action.protocol().empty()) {
    return fail(Code::kInvalid, "httpGet.protocol: {} is not supported", action.protocol());
  }
  HttpGet get;
  get.tls = action.scheme() == "HTTPS";
  FL_LET(get.address, resolve_host(action.host(), pod_ip, "httpGet"));
  FL_LET(get.port, resolve_port(action.port(), container, "httpGet"));
  get.path = action.path();
  if (!get.path.starts_with('/')) get.path.insert(0, "/");
  if (!is_clean(get.path, false)) return fail(Code::kInvalid, "httpGet.path: a space or control character");
  for (const auto& header : action.httpheaders()) {
    if (header.name().empty() || !is_clean(header.name(), false) || header.name().contains(':') ||
        !is_clean(header.value(), true)) {
      return fail(Code::kInvalid, "httpGet.httpHeaders: '{}' is no header", header.name());
    }
    get.headers.emplace_back(header.name(), header.value());
  }
  return get;
}

int or_default(int value, int otherwise) {
  return value > 0 ? value : otherwise;
}

}  // namespace

Result<ProbeSpec> make_probe_spec(const k8s::Probe& probe, const k8s::Container& container, const IpAddress& pod_ip) {
  ProbeSpec spec;
  const auto& handler = probe.handler();
  if (handler.has_httpget()) {
    FL_LET(spec.action, make_http(handler.httpget(), container, pod_ip));
  } else if (handler.has_tcpsocket()) {
    TcpConnect tcp;
    FL_LET(tcp.address, resolve_host(handler.tcpsocket().host(), pod_ip, "tcpSocket"));
    FL_LET(tcp.port, resolve_port(handler.tcpsocket().port(), container, "tcpSocket"));
    spec.action = tcp;
  } else if (handler.has_exec()) {
    spec.action = ExecCommand{{handler.exec().command().begin(), handler.exec().command().end()}};
  } else if (handler.has_grpc()) {
    const std::int64_t port = handler.grpc().port();
    if (port < 1 || port > kMaxPort) return fail(Code::kInvalid, "grpc.port: {} is not a port", port);
    spec.action = GrpcCheck{pod_ip, static_cast<std::uint16_t>(port), handler.grpc().service()};
  } else {
    return fail(Code::kInvalid, "the probe names no action");
  }
  spec.initial_delay = std::chrono::seconds(std::max(0, probe.initialdelayseconds()));
  spec.period = std::chrono::seconds(or_default(probe.periodseconds(), 10));
  spec.timeout = std::chrono::seconds(or_default(probe.timeoutseconds(), 1));
  spec.success_threshold = or_default(probe.successthreshold(), 1);
  spec.failure_threshold = or_default(probe.failurethreshold(), 3);
  return spec;
}

std::string http_request(const HttpGet& get) {
  const auto given = [&](const char* name) {
    return std::ranges::any_of(get.headers,
                               [&](const auto& header) { return !strcasecmp(header.first.c_str(), name); });
  };
  std::string text = fmt::format("GET {} HTTP/1.1\r\n", get.path);
  if (!given("Host")) {
    text += fmt::format(fmt::runtime(get.address.is_v4() ? "Host: {}:{}\r\n" : "Host: [{}]:{}\r\n"), get.address.str(),
                        get.port);
  }
  if (!given("User-Agent")) text += "User-Agent: kube-probe/1.37\r\n";
  if (!given("Accept")) text += "Accept: */*\r\n";
  for (const auto& [name, value] : get.headers) {
    if (!value.empty()) text += fmt::format("{}: {}\r\n", name, value);
  }
  return text + "Connection: close\r\n\r\n";
}

ProbeState step(const ProbeSpec& spec, ProbeState state, bool success) {
  state.run = state.last == success ? state.run + 1 : 1;
  state.last = success;
  if (state.run >= (success ? spec.success_threshold : spec.failure_threshold)) state.result = success;
  return state;
}

Duration first_delay(const ProbeSpec& spec, Duration running_for, double random) {
  const Duration left = spec.initial_delay - running_for;
  if (left > -spec.period) return std::max(left, Duration::zero());
  return std::chrono::duration_cast<Duration>(spec.period * random);
}

}  // namespace fairlead::pods
