// SPDX-License-Identifier: Apache-2.0
// Services of a whole node: who answers, and when.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "test/e2e/node_suite.h"

namespace fairlead::e2e {
namespace {

using namespace std::chrono_literals;
using testing::IsEmpty;
using testing::UnorderedElementsAre;
using testkit::eventually;

TEST_P(NodeTest, AServiceAnswersFromAllItsBackends) {
  start_web();
  for (const std::string& from : {std::string(), std::string("client")}) {
    for (const std::string& url : {std::string(kWeb4), std::string(kWeb6), std::string("tcp://10.96.0.80:81"),
                                   std::string("udp://10.96.0.80:82"), std::string("udp://[fd00:10:96::80]:82")}) {
      EXPECT_THAT(names(node_->get(from, url, 60)), UnorderedElementsAre("web-1", "web-2", "web-3"))
          << "from " << (from.empty() ? "the node" : from) << " " << url;
    }
  }
  // A pod reaches itself through its Service, too.
  EXPECT_THAT(names(node_->get("web-1", kWeb4, 60)), UnorderedElementsAre("web-1", "web-2", "web-3"));
}

TEST_P(NodeTest, AServiceIsLeftToAnotherProxyWhileItsLabelSaysSo) {
  start_web();
  std::string others = kService;
  const std::string name = "{name: web}";
  others.replace(others.find(name), name.size(),
                 "{name: web, labels: {service.kubernetes.io/service-proxy-name: mesh}}");
  apply("service", others);
  EXPECT_TRUE(eventually([] { return node_->ctl("service get web")["other_proxy"] == true; }, 10s));
  EXPECT_THAT(node_->backends("web"), IsEmpty());
  for (const std::string& from : {std::string(), std::string("client")}) {
    for (const char* url : {kWeb4, kWeb6}) EXPECT_EQ(node_->get(from, url, 2), (Answers{{"failed", 2}})) << url;
  }
  apply("service", kService);
  EXPECT_TRUE(eventually([] { return node_->backends("web").size() == 3; }, 10s));
  for (const char* url : {kWeb4, kWeb6}) {
    EXPECT_THAT(names(node_->get("client", url, 60)), UnorderedElementsAre("web-1", "web-2", "web-3"));
  }
}

TEST_P(NodeTest, ReadinessGatesBackends) {
  apply("service", kService);
  apply("client", client());
  const auto server = [](const std::string& name, const std::string& line, const std::string& probe) {
    return pod_of(name,
                  fmt::format(R"(command: [sh, -c, '{}'],
     ports: [{{name: http, containerPort: 8080}}], readinessProbe: {{{}, periodSeconds: 1, failureThreshold: 1}})",
                              line, probe),
                  "", "app: web");
  };
  apply("http", server("http", "touch /tmp/unready; exec fl-echo serve --http 8080 --unready-file /tmp/unready",
                       "httpGet: {path: /healthz, port: http}"));
  apply("tcp",
        server("tcp",
               "fl-echo serve --http 8080 & until [ -e /tmp/go ]; do sleep 0.1; done; exec fl-echo serve --tcp 8081",
               "tcpSocket: {port: 8081}"));
  apply("exec", server("exec", "exec fl-echo serve --http 8080", "exec: {command: [test, -e, /tmp/go]}"));
  for (const char* name : {"http", "tcp", "exec"}) expect_running(name, "0/1");
  expect_running("client");
  // Long enough for several probes: what is not ready stays out.
  EXPECT_EQ(node_->get("client", "http://10.96.0.80/", 10), (Answers{{"failed", 10}}));
  EXPECT_THAT(node_->backends("web"), IsEmpty());

  std::set<std::string> ready;
  const auto serve_only_ready = [&] {
    EXPECT_TRUE(eventually([&] { return node_->backends("web").size() == ready.size(); }, 10s))
        << node_->ctl("backend list").dump();
    EXPECT_EQ(names(node_->get("client", kWeb4, 60)), ready);
  };
  for (const auto& [name, open] : std::map<std::string, std::string>{
           {"http", "rm /tmp/unready"}, {"tcp", "touch /tmp/go"}, {"exec", "touch /tmp/go"}}) {
    EXPECT_EQ(node_->in_pod(name, open).code, 0);
    expect_running(name);
    ready.insert(name);
    serve_only_ready();
  }
  for (const auto& [name, close] :
       std::map<std::string, std::string>{{"http", "touch /tmp/unready"}, {"exec", "rm /tmp/go"}}) {
    EXPECT_EQ(node_->in_pod(name, close).code, 0);
    expect_running(name, "0/1");
    ready.erase(name);
    serve_only_ready();
  }
  for (const char* name : {"http", "tcp", "exec"}) EXPECT_EQ(restarts(name), 0) << name;
}

TEST_P(NodeTest, ABackendDeletedUnderLoadLosesNoRequest) {
  start_web();
  auto load = node_->load("client", kWeb4, 500);
  ASSERT_TRUE(load) << load.error().message();
  node_->withdraw("web-3.yaml");
  EXPECT_TRUE(eventually([] { return node_->pod("web-3").is_null(); }, 20s)) << node_->pod("web-3").dump();
  EXPECT_TRUE(load->goes_on(1));
  const Json report = load->end();
  ASSERT_TRUE(report.is_object());
  EXPECT_EQ(report["failed"], 0) << report.dump();
  EXPECT_GE(report["new_connections"], 1000) << report.dump();
  EXPECT_GT(report["by_backend"]["web-3"], 0) << report.dump();
  EXPECT_THAT(names(node_->get("client", kWeb4, 40)), UnorderedElementsAre("web-1", "web-2"));
}

}  // namespace
}  // namespace fairlead::e2e
