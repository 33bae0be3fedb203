// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/probes/probe_spec.h"

#include <gtest/gtest.h>
#include <k8s/pod.pb.h>

namespace fairlead::pods {
namespace {

using namespace std::chrono_literals;

const IpAddress kPod = *IpAddress::parse("10.1.0.7");

k8s::Container web() {
  k8s::Container container;
  container.set_name("web");
  auto* port = container.add_ports();
  port->set_name("http");
  port->set_containerport(8080);
  return container;
}

k8s::Probe http(std::string_view port_name = "http") {
  k8s::Probe probe;
  auto* get = probe.mutable_handler()->mutable_httpget();
  get->set_path("/healthz?full=1");
  get->mutable_port()->set_type(1);
  get->mutable_port()->set_strval(std::string(port_name));
  return probe;
}

TEST(ProbeSpec, NamedPortsAndTheApisDefaults) {
  const auto spec = make_probe_spec(http(), web(), kPod);
  ASSERT_TRUE(spec) << spec.error().message();
  EXPECT_EQ(std::get<HttpGet>(spec->action), (HttpGet{kPod, 8080, "/healthz?full=1", {}}));
  auto secure = http();
  secure.mutable_handler()->mutable_httpget()->set_scheme("HTTPS");
  EXPECT_TRUE(std::get<HttpGet>(make_probe_spec(secure, web(), kPod)->action).tls);
  EXPECT_EQ(spec->initial_delay, 0s);
  EXPECT_EQ(spec->period, 10s);
  EXPECT_EQ(spec->timeout, 1s);
  EXPECT_EQ(spec->success_threshold, 1);
  EXPECT_EQ(spec->failure_threshold, 3);
}

TEST(ProbeSpec, RefusalsNameTheField) {
  const auto error = [](const k8s::Probe& probe) {
    const auto spec = make_probe_spec(probe, web(), kPod);
    return spec ? "accepted" : spec.error().message();
  };
  EXPECT_EQ(error(http("admin")), "httpGet.port: container web has no port named 'admin'");
  auto probe = http();
  probe.mutable_handler()->mutable_httpget()->set_scheme("FTP");
  EXPECT_EQ(error(probe), "httpGet.scheme: FTP is not supported");
  probe = http();
  probe.mutable_handler()->mutable_httpget()->set_host("example.org");
  EXPECT_EQ(error(probe), "httpGet.host: 'example.org' is not an IP address; names are not looked up");
  probe = http();
  probe.mutable_handler()->mutable_httpget()->set_path("/a\r\nX: y");
  EXPECT_EQ(error(probe), "httpGet.path: a space or control character");
  probe = http();
  auto* header = probe.mutable_handler()->mutable_httpget()->add_httpheaders();
  header->set_name("A");
  header->set_value("b\nc");
  EXPECT_EQ(error(probe), "httpGet.httpHeaders: 'A' is no header");
  k8s::Probe tcp;
  tcp.mutable_handler()->mutable_tcpsocket()->mutable_port()->set_intval(70000);
  EXPECT_EQ(error(tcp), "tcpSocket.port: 70000 is not a port");
  k8s::Probe grpc;
  grpc.mutable_handler()->mutable_grpc();
  EXPECT_EQ(error(grpc), "grpc.port: 0 is not a port");
  grpc.mutable_handler()->mutable_grpc()->set_port(9000);
  grpc.mutable_handler()->mutable_grpc()->set_service("db");
  EXPECT_EQ(std::get<GrpcCheck>(make_probe_spec(grpc, web(), kPod)->action), (GrpcCheck{kPod, 9000, "db"}));
  EXPECT_EQ(error({}), "the probe names no action");
}

TEST(ProbeSpec, RequestsCarryTheirHeadersAndOursWhereTheyAreAbsent) {
  EXPECT_EQ(http_request({kPod, 80, "/", {}}),
            "GET / HTTP/1.1\r\nHost: 10.1.0.7:80\r\nUser-Agent: kube-probe/1.37\r\nAccept: */*\r\n"
            "Connection: close\r\n\r\n");
  EXPECT_EQ(http_request({*IpAddress::parse("fd00::7"), 80, "/x", {{"host", "a.b"}, {"ACCEPT", ""}, {"X", "1"}}}),
            "GET /x HTTP/1.1\r\nUser-Agent: kube-probe/1.37\r\nhost: a.b\r\nX: 1\r\nConnection: close\r\n\r\n");
  EXPECT_TRUE(http_request({*IpAddress::parse("fd00::7"), 80, "/", {}}).contains("\r\nHost: [fd00::7]:80\r\n"));
}

// Attempts as letters, and the result in force after each: '-' none yet, 'y' good, 'n' bad.
TEST(ProbeState, TurnsOnceARunReachesItsThreshold) {
  struct Case {
    int success_threshold;
    int failure_threshold;
    std::optional<bool> known;
    std::string_view attempts;
    std::string_view results;
  };
  const Case cases[] = {
      {1, 3, {}, "ynnynnn", "yyyyyyn"},         // a success in between starts the count again
      {1, 3, {}, "nnnny", "--nny"},             // nothing is decided before a threshold
      {2, 1, {}, "ynyyny", "-nnynn"},           // two successes to turn good, one failure to turn bad
      {3, 2, false, "yyyynyynn", "nnyyyyyyn"},  // a run goes on after it turned
      {1, 3, true, "nnn", "yyn"},               // what is known from before holds
      {1, 1, false, "yn", "yn"},
  };
  for (const auto& [success, failure, known, attempts, results] : cases) {
    ProbeSpec spec;
    spec.success_threshold = success;
    spec.failure_threshold = failure;
    ProbeState state{known, {}, 0};
    std::string seen;
    for (const char attempt : attempts) {
      state = step(spec, state, attempt == 'y');
      seen += !state.result ? '-' : *state.result ? 'y' : 'n';
    }
    EXPECT_EQ(seen, results) << attempts;
  }
}

TEST(FirstDelay, IsWhatIsLeftOrAShareOfAPeriod) {
  ProbeSpec spec;
  spec.initial_delay = 5s;
  spec.period = 10s;
  EXPECT_EQ(first_delay(spec, 0s, 0.5), 5s);
  EXPECT_EQ(first_delay(spec, 4s, 0.5), 1s);
  EXPECT_EQ(first_delay(spec, 14s, 0.5), 0s);  // due within the last period: at once
  EXPECT_EQ(first_delay(spec, 15s, 0.5), 5s);  // adopted
  EXPECT_EQ(first_delay(spec, 1h, 0.0), 0s);
  EXPECT_EQ(first_delay(spec, 1h, 1.0), 10s);
}

}  // namespace
}  // namespace fairlead::pods
