// SPDX-License-Identifier: Apache-2.0
// The API server fails in every way that it can: what is in force stays in force, and what was said meanwhile happens
// afterwards, once.
#include <gmock/gmock.h>

#include <cstdlib>
#include <functional>

#include "test/e2e/cluster_fixture.h"
#include "test/kit/api_front.h"

namespace fairlead::e2e {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testkit::ApiFront;
using testkit::eventually;

constexpr int kBefore = 2;
constexpr int kAfter = 4;
// Of requests a second: new connections, and on each of those that are kept.
constexpr int kRate = 20;
constexpr int kKeptRate = 2;

std::string status_object(int code, const std::string& reason) {
  return fmt::format(R"({{"kind":"Status","apiVersion":"v1","status":"Failure","message":"{}","code":{}}})", reason,
                     code);
}

class ApiFaultTest : public ClusterFixture {
 protected:
  static void SetUpTestSuite() {
    ASSERT_NO_FATAL_FAILURE(start_plane());
    auto front = ApiFront::start(*plane_, kNodeV4);
    ASSERT_TRUE(front) << front.error().message();
    front_.emplace(std::move(*front));
    ASSERT_NO_FATAL_FAILURE(start_node(plane_->write_kubeconfig("by-front", "node-token", front_->url())));
    deploy(kBefore);
  }
  static void TearDownTestSuite() {
    if (node_) node_->stop_agent();
    front_.reset();
    ClusterFixture::TearDownTestSuite();
  }
  void SetUp() override {
    ClusterFixture::SetUp();
    ASSERT_TRUE(in_force(kBefore));
  }
  void TearDown() override {
    front_->proxy().pass();
    if (plane_->kubectl("get --raw /readyz").code == 0) scale(kBefore);
    EXPECT_TRUE(in_force(kBefore)) << kubectl("get pods") << node_->ctl("status").dump(1);
    EXPECT_TRUE(eventually([] { return node_->agent_ready(); }, 60s)) << node_->ctl("status").dump(1);
    ClusterFixture::TearDown();
  }

  // This many pods run and are the Service's backends, here and as the API server has it, each in one container.
  static bool in_force(std::size_t pods) {
    return eventually(
        [&] {
          if (!web_is(pods) || node_->backends("web") != web_addresses()) return false;
          std::size_t containers = 0;
          for (const Json& each : web_pods())
            containers += node_->containers(at(each, "/metadata/name", ""), false).size();
          return containers == pods;
        },
        90s);
  }
  // What `status` says of the API server: "KIND: WHY" a line.
  static std::string failing() {
    std::string all;
    const Json status = node_->ctl("status");
    const Json rows = status.is_object() ? status.value("failing", Json::object()) : Json::object();
    for (const auto& [name, why] : rows.items()) all += name + ": " + why.get<std::string>() + "\n";
    return all;
  }

  // Nothing was refused or cut off. An answer that took more than half a second is the machine's fault where API
  // servers restart beside it, as long as it is one of a hundred.
  static void expect_answered(const Json& report) {
    ASSERT_TRUE(report.is_object());
    const Json kinds = report.value("failures_by_kind", Json::object());
    for (const auto& [kind, times] : kinds.items()) {
      EXPECT_TRUE(kind == "timeout" || kind == "keep-alive: timeout") << report.dump(1);
    }
    EXPECT_LE(report.value("failed", 1) * 100, report.value("requests", 0)) << report.dump(1);
  }
  // A number that the agent counts; -1 where it does not.
  static double metric(const std::string& name) {
    const std::string metrics = Node::fetch("http://127.0.0.1:10249/metrics");
    const auto found = metrics.find("\n" + name + " ");
    return found == metrics.npos ? -1 : std::atof(metrics.c_str() + found + 1 + name.size());
  }

  // Lets `fault` happen while a client asks the Service all the time, and something is asked of the API server; the
  // agent has to say `said`. `mended`: what ends the fault.
  static void expect_to_outlive(
      const std::function<void()>& fault, const std::vector<std::string>& said,
      const std::function<void()>& mended = [] { front_->proxy().pass(); }) {
    auto load = node_->load("client", kWeb, kRate, kKeptRate);
    ASSERT_TRUE(load) << load.error().message();
    const auto backends = node_->backends("web");
    const std::string tasks = node_->tasks();
    fault();
    for (const std::string& words : said) {
      EXPECT_TRUE(eventually([&] { return failing().contains(words); }, 60s)) << words << "\n" << failing();
    }
    EXPECT_TRUE(load->goes_on(2));
    EXPECT_EQ(node_->backends("web"), backends);
    EXPECT_EQ(node_->tasks(), tasks);
    EXPECT_THAT(Node::fetch("http://127.0.0.1:10256/readyz"), HasSubstr("\"healthy\":true"));
    mended();
    EXPECT_TRUE(in_force(kAfter)) << kubectl("get pods") << node_->ctl("backend list").dump(1) << failing();
    EXPECT_TRUE(eventually([] { return failing().empty(); }, 60s)) << failing();
    EXPECT_TRUE(load->goes_on(1));
    expect_answered(load->end());
  }
  static void expect_to_outlive_answers(const std::string& head, const std::string& body,
                                        const std::vector<std::string>& said) {
    expect_to_outlive(
        [&] {
          front_->answer(head, body);
          scale(kAfter);
        },
        said);
  }

  static inline std::optional<ApiFront> front_;
};

// A minute of it is no other than the seconds that this takes: only the back-off grows, to half a minute at most.
TEST_F(ApiFaultTest, AnApiServerThatIsAway) {
  expect_to_outlive(
      [] {
        front_->proxy().cut();
        scale(kAfter);
      },
      {"api: Service: GET ", "api: EndpointSlice: GET ", "api: Pod: GET "});
}

// Bytes are taken and nothing comes: at first nobody can tell it from a quiet server. A container that ends meanwhile
// is started again, and the API server learns of it afterwards.
TEST_F(ApiFaultTest, AnApiServerThatHangs) {
  const std::string name = at(web_pods().front(), "/metadata/name", "");
  auto load = node_->load("client", kWeb, kRate, kKeptRate);
  ASSERT_TRUE(load) << load.error().message();
  front_->proxy().hang();
  scale(kAfter);
  EXPECT_TRUE(load->goes_on(2));
  expect_answered(load->end());
  const auto containers = node_->containers(name);
  ASSERT_EQ(containers.size(), 1U);
  node_->kill_task(*containers.begin());
  EXPECT_TRUE(eventually(
      [&] {
        const auto now = node_->containers(name);
        return now.size() == 1 && now != containers && node_->pod_is(name, "Running", "1/1");
      },
      60s))
      << node_->pod(name).dump(1);
  EXPECT_EQ(at(pod(name), "/status/containerStatuses/0/restartCount"), 0);
  front_->proxy().pass();
  EXPECT_TRUE(eventually([&] { return at(pod(name), "/status/containerStatuses/0/restartCount") == 1; }, 90s))
      << pod(name).dump(1);
  EXPECT_TRUE(eventually([] { return web_is(kAfter) && node_->backends("web") == web_addresses(); }, 90s))
      << kubectl("get pods");
  kubectl("delete pod " + name + " --wait=false");  // so that each pod is in its first container again
}

TEST_F(ApiFaultTest, AnApiServerThatIsTooBusy) {
  expect_to_outlive_answers("429 Too Many Requests\r\nRetry-After: 1\r\nContent-Type: application/json",
                            status_object(429, "too many requests, please try again later"),
                            {"/endpointslices: 429 too many requests", "/pods: 429 too many requests"});
}

TEST_F(ApiFaultTest, AnApiServerThatAnswersErrors) {
  expect_to_outlive_answers("500 Internal Server Error\r\nContent-Type: application/json",
                            status_object(500, "etcdserver: no leader"),
                            {"/endpointslices: 500 etcdserver: no leader", "/pods: 500 etcdserver: no leader"});
}

TEST_F(ApiFaultTest, AnApiServerThatTalksNonsense) {
  expect_to_outlive_answers(
      "200 OK\r\nContent-Type: application/vnd.kubernetes.protobuf;stream=watch", std::string("\0\0\0\7garbage", 11),
      {"api: EndpointSlice: GET /apis/discovery.k8s.io/v1/endpointslices: ", "a watch frame does not parse"});
}

// What a watch was to go on from is not known any more: everything is listed anew, and what vanished unseen is gone.
TEST_F(ApiFaultTest, AnExpiredWatch) {
  const auto lists = [] { return metric("fairlead_reflector_lists_total{kind=\"EndpointSlice\"}"); };
  const auto has_ghost = [] { return node_->ctl("service list").dump().contains("ghost"); };
  kubectl("create service clusterip ghost --tcp=80");
  ASSERT_TRUE(eventually(has_ghost, 20s));
  const double before = lists();
  expect_to_outlive(
      [] {
        front_->proxy().cut();
        scale(kAfter);
        kubectl("delete service ghost");
        plane_->kill_api_server();
        const auto forgotten = plane_->forget_history();
        ASSERT_TRUE(forgotten) << forgotten.error().message();
        const auto started = plane_->start_api_server();
        ASSERT_TRUE(started) << started.error().message();
      },
      {"api: EndpointSlice: GET "});
  EXPECT_GT(lists(), before);
  EXPECT_FALSE(has_ghost());
}

// The API server stays, and can do nothing.
TEST_F(ApiFaultTest, EtcdKilledAndRestarted) {
  expect_to_outlive(
      [] {
        const auto failures = [] { return metric("fairlead_node_report_failures_total"); };
        const double before = failures();
        plane_->kill_etcd();
        EXPECT_TRUE(eventually([&] { return failures() > before; }, 120s));
        EXPECT_TRUE(node_->agent_logged("/leases/node: "));
      },
      {},
      [] {
        const auto started = plane_->start_etcd();
        ASSERT_TRUE(started) << started.error().message();
        ASSERT_TRUE(eventually([] { return plane_->kubectl("get --raw /readyz").code == 0; }, 90s));
        scale(kAfter);
      });
}

}  // namespace
}  // namespace fairlead::e2e
