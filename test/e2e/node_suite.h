// SPDX-License-Identifier: Apache-2.0
// A whole node with the agent's own program: pods over each containerd, their network and their Services, from
// manifests. One node serves all cases of a containerd; each case ends with its pods gone and nothing of them left.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <iostream>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "test/e2e/node_fixture.h"

namespace fairlead::e2e {

inline constexpr auto kWeb4 = "http://10.96.0.80/";
inline constexpr auto kWeb6 = "http://[fd00:10:96::80]/";

inline constexpr auto kService = R"(
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ipFamilyPolicy: RequireDualStack
  clusterIPs: [10.96.0.80, "fd00:10:96::80"]
  ports:
  - {name: http, port: 80, targetPort: http}
  - {name: line, port: 81, targetPort: line}
  - {name: datagram, port: 82, targetPort: datagram, protocol: UDP}
)";

// A pod of one container, `container` being the rest of its fields, `spec` the pod's.
inline std::string pod_of(const std::string& name, const std::string& container, const std::string& spec = "",
                          const std::string& labels = "") {
  return fmt::format(R"(
apiVersion: v1
kind: Pod
metadata: {{name: {}, labels: {{{}}}}}
spec:
  terminationGracePeriodSeconds: 5
  {}
  containers:
  - {{name: main, image: "localhost/fairlead/echo:demo", {}}}
)",
                     name, labels, spec, container);
}

inline std::string web(const std::string& name, const std::string& more = "") {
  return pod_of(name,
                R"(args: [serve, --http, "8080", --tcp, "8081", --udp, "8082"],
     ports: [{name: http, containerPort: 8080}, {name: line, containerPort: 8081},
             {name: datagram, containerPort: 8082, protocol: UDP}],
     readinessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 1})" +
                    more,
                "", "app: web");
}

inline std::string client() {
  return pod_of("client", R"(args: [serve, --http, "8080"])");
}

inline std::string shell(const std::string& name, const std::string& line, const std::string& spec = "",
                         const std::string& container = "") {
  return pod_of(name, fmt::format("command: [sh, -c, '{}']{}", line, container), spec);
}

class NodeTest : public testing::TestWithParam<const char*> {
 protected:
  static void TearDownTestSuite() { node_.reset(); }

  void SetUp() override {
    if (node_ == nullptr) {
      auto made = Node::make(*GetParam() == 0 ? "debian" : "v2", GetParam());
      ASSERT_TRUE(made) << made.error().message();
      node_ = std::move(*made);
      const auto started = node_->start_agent();
      ASSERT_TRUE(started) << started.error().message();
      pins_ = node_->pins();
    }
    ASSERT_TRUE(node_->agent_runs()) << node_->agent_log();
  }

  // After every case: what it made is gone.
  void TearDown() override {
    if (node_ == nullptr) return;
    node_->withdraw_all();
    EXPECT_TRUE(testkit::eventually(
        [] { return node_->ctl("pod list") == Json::array() && node_->leftovers().empty(); }, std::chrono::seconds(10)))
        << node_->leftovers() << node_->ctl("pod list").dump(1);
    EXPECT_EQ(node_->pins(), pins_);
    if (HasFailure()) std::cerr << node_->agent_log();
  }

  static void apply(const std::string& name, const std::string& text) { node_->apply(name + ".yaml", text); }
  static void expect_running(const std::string& name, const std::string& ready = "1/1") {
    EXPECT_TRUE(testkit::eventually([&] { return node_->pod_is(name, "Running", ready); }, std::chrono::seconds(20)))
        << node_->pod(name).dump(1);
  }
  static std::vector<std::string> ips(const std::string& name) {
    return node_->pod(name).value("ips", std::vector<std::string>());
  }
  static int restarts(const std::string& name) {
    const Json pod = node_->pod(name);
    return pod.is_object() ? pod.value("restarts", -1) : -1;
  }
  static std::set<std::string> names(const Answers& answers) {
    std::set<std::string> found;
    for (const auto& [name, times] : answers) found.insert(name);
    return found;
  }
  // Three web pods behind the Service, and the client.
  static void start_web() {
    apply("service", kService);
    for (const char* name : {"client", "web-1", "web-2", "web-3"}) {
      apply(name, name == std::string("client") ? client() : web(name));
    }
    for (const char* name : {"client", "web-1", "web-2", "web-3"}) expect_running(name);
    EXPECT_TRUE(testkit::eventually([] { return node_->backends("web").size() == 3; }, std::chrono::seconds(5)))
        << node_->ctl("backend list").dump();
  }

  static inline std::unique_ptr<Node> node_;
  static inline std::set<std::string> pins_;
};

}  // namespace fairlead::e2e
