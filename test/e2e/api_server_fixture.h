// SPDX-License-Identifier: Apache-2.0
// The API edge and the node's word against a real kube-apiserver, under the node's own rights:
//
//   ApiSource + NodeReporter (system:node:node-a) ── TLS, HTTP/2, protobuf ── kube-apiserver ── etcd
#pragma once

#include <gtest/gtest.h>
#include <k8s/pod.pb.h>

#include <filesystem>
#include <memory>
#include <string>

#include "agent/base/loop_thread.h"
#include "agent/kube/api/api_source.h"
#include "agent/node/node.h"
#include "agent/object_tables.h"
#include "test/e2e/healthy_runtime.h"
#include "test/kit/control_plane.h"

namespace fairlead {

using testkit::ControlPlane;
using testkit::eventually;

// One control plane and one node for all cases: starting it costs seconds.
class ApiServer : public testing::Test {
 protected:
  struct Bed {
    ControlPlane plane;
    SystemClock clock;
    metrics::Registry registry;
    ObjectTables tables{kube::kApiSource};
    HealthyRuntime runtime;
    Sender<model::PodStatusUpdate> statuses;
    Sender<model::EventNote> events;
    Sender<model::StaticPod> static_pods;
    Sender<model::ConfigWant> wants;
    Caller<model::TokenAsk, model::ServiceAccountToken> tokens;
    Caller<Inspect, Json> status;
    LoopThread edge{"edge"};
    std::unique_ptr<kube::ApiSource> source;
    std::unique_ptr<node::NodeReporter> reporter;

    explicit Bed(ControlPlane started);
    ~Bed() { edge.join(); }
  };

  static void SetUpTestSuite();
  static void TearDownTestSuite();
  void SetUp() override { ASSERT_NE(bed_, nullptr); }

  // `kubectl … ` must succeed; its output.
  static std::string kubectl(const std::string& args);
  static Json api_status();
  static bool synced();
  // Text on its way to `kubectl apply`.
  static void apply(const std::string& manifest);
  // A pod bound to the node, once the Node is there; its uid.
  static std::string make_pod(const std::string& name, const std::string& spec = "", const std::string& meta = "");
  // A field of an object, or "" where it is not there.
  static std::string field(const std::string& object, const std::string& path);
  static std::shared_ptr<const k8s::PodStatus> running(const std::string& ip);

  static inline std::filesystem::path folder_;
  static inline Bed* bed_ = nullptr;
};

}  // namespace fairlead
