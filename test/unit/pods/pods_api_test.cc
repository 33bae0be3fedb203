// SPDX-License-Identifier: Apache-2.0
// Pods as an API server sends them: what is asked of it for them, and what it is told.
#include <sched.h>
#include <sys/mount.h>

#include "agent/base/atomic_file.h"
#include "test/unit/pods/domain.h"

namespace fairlead::pods {
namespace {

class PodsApiTest : public PodsDomainTest {
 protected:
  static void SetUpTestSuite() {  // tokens lie on a tmpfs
    ASSERT_EQ(unshare(CLONE_NEWNS), 0) << "needs root";
    ASSERT_EQ(mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr), 0);
  }
  PodsApiTest() { config.drain_delay = Duration::zero(); }

  void desire_of_api(const k8s::Pod& pod, std::optional<std::int64_t> grace_s = {}) { desire(pod, grace_s, "api"); }
  void run_api_pod(const k8s::Pod& pod) {
    desire_of_api(pod);
    desire_is_complete();
    start();
    ASSERT_TRUE(until([&] { return ready() && agent->complete(); }));
  }
  // Runs the loop until `done`, while the Service maps follow at once.
  template <class Done>
  [[nodiscard]] bool until_with_maps(Done done) {
    return until([&] {
      agent->apply(agent->revision);
      return done();
    });
  }
  const k8s::PodStatus& status() { return *agent->statuses.at("u1").status; }
  static k8s::LifecycleHandler exec(const std::string& command) {
    k8s::LifecycleHandler handler;
    handler.mutable_exec()->add_command(command);
    return handler;
  }
};

TEST_F(PodsApiTest, ItsEndIsToldBeforeItIsGone) {
  auto pod = make_pod();
  pod.mutable_metadata()->set_generation(2);
  run_api_pod(pod);
  EXPECT_EQ(status().containerstatuses(0).containerid().substr(0, 7), "fake://");
  EXPECT_EQ(status().observedgeneration(), 2);
  desire_of_api(pod, 5);
  ASSERT_TRUE(until_with_maps([&] { return finished(); }));
  EXPECT_EQ(runtime.stops.front().second, 5);
  EXPECT_EQ(status().phase(), "Failed");
  const auto& web = status().containerstatuses(0);
  EXPECT_EQ(web.state().terminated().exitcode(), 143);
  EXPECT_FALSE(web.ready());
  EXPECT_TRUE(agent->happened("Killing", "Stopping container web"));
}

// The server tells of the object once more before it is gone.
TEST_F(PodsApiTest, APodEndsOnce) {
  auto pod = make_pod();
  run_api_pod(pod);
  desire_of_api(pod, 5);
  ASSERT_TRUE(until_with_maps([&] { return finished(); }));
  settle();
  agent->statuses.clear();
  pod.mutable_metadata()->set_generation(2);
  desire_of_api(pod, 0);
  settle();
  EXPECT_TRUE(agent->statuses.empty());
}

TEST_F(PodsApiTest, AnAgentThatRestartsGoesOnFromTheServersStatus) {
  auto pod = make_pod();
  auto& known = *pod.mutable_status();
  known.set_phase("Running");
  known.mutable_starttime()->set_seconds(77);
  auto& scheduled = *known.add_conditions();
  scheduled.set_type("PodScheduled");
  scheduled.set_status("True");
  scheduled.mutable_lasttransitiontime()->set_seconds(66);
  auto& web = *known.add_containerstatuses();
  web.set_name("web");
  web.set_containerid("fake://c9");
  web.mutable_state()->mutable_terminated()->set_exitcode(4);
  desire_of_api(pod, 5);
  desire_is_complete();
  start();
  ASSERT_TRUE(until_with_maps([&] { return finished(); }));
  EXPECT_EQ(status().starttime().seconds(), 77);
  EXPECT_EQ(status().containerstatuses(0).state().terminated().exitcode(), 4);
  const auto at = std::ranges::find(status().conditions(), std::string("PodScheduled"), &k8s::PodCondition::type);
  ASSERT_NE(at, status().conditions().end());
  EXPECT_EQ(at->lasttransitiontime().seconds(), 66);
}

// As when an agent's node was made anew: the runtime knows nothing of a job that is done.
TEST_F(PodsApiTest, WhatHasEndedIsNotBegunAgain) {
  auto pod = make_pod();
  pod.mutable_spec()->set_restartpolicy("Never");
  pod.mutable_status()->set_phase("Succeeded");
  desire_of_api(pod);
  desire_is_complete();
  start();
  settle();
  EXPECT_EQ(runtime.count("RunPodSandbox"), 0U);
  EXPECT_TRUE(agent->statuses.empty());
  desire_of_api(pod, 5);
  ASSERT_TRUE(until_with_maps([&] { return finished(); }));
}

TEST_F(PodsApiTest, ConfigIsWantedWhileThePodIsThereAndWaitedFor) {
  config.configs_on_demand = true;
  auto pod = make_pod();
  auto& from = *pod.mutable_spec()->mutable_containers(0)->add_envfrom()->mutable_configmapref();
  from.mutable_localobjectreference()->set_name("c");
  from.set_optional(true);
  desire_of_api(pod);
  desire_is_complete();
  start();
  ASSERT_TRUE(until([&] { return runtime.sandboxes.size() == 1 && agent->wanted.contains("ns/c"); }));
  settle();
  EXPECT_TRUE(runtime.containers.empty());  // optional or not: nobody has said yet that there is none
  config_maps.writer("api").upsert("ns/c", {.id = {"ns", "c", ""}, .data = {}, .absent = true});
  ASSERT_TRUE(until([&] { return ready(); }));
  EXPECT_TRUE(agent->wanted.at("ns/c"));
  undesire();
  ASSERT_TRUE(until_with_maps([&] { return finished() && !agent->wanted.at("ns/c"); }));
}

TEST_F(PodsApiTest, StaticPodsAreToldAndOthersAreNot) {
  desire(make_named_pod("a", "u2"));
  run_api_pod(make_pod());
  ASSERT_TRUE(until([&] { return agent->statics.contains(""); }));
  EXPECT_TRUE(agent->statics.at("u2"));
  EXPECT_FALSE(agent->statics.contains("u1"));
  undesire("u2");
  ASSERT_TRUE(until_with_maps([&] { return !agent->statics.at("u2"); }));
}

TEST_F(PodsApiTest, ATokenIsProjectedAndRenewed) {
  auto pod = make_pod();
  auto& volume = *pod.mutable_spec()->add_volumes();
  volume.set_name("access");
  volume.mutable_volumesource()->mutable_projected()->add_sources()->mutable_serviceaccounttoken()->set_path("token");
  desire_of_api(pod);
  desire_is_complete();
  start();
  agent->token_life = 400ms;
  ASSERT_TRUE(until([&] { return ready(); }));
  const std::string file = config.state_dir + "/pods/u1/volumes/kubernetes.io~projected/access/token";
  EXPECT_EQ(read_file(file).value(), "token-1");
  clock.advance(390ms);
  EXPECT_TRUE(until([&] { return read_file(file).value_or("") == "token-2"; }));
  undesire();
  EXPECT_TRUE(until_with_maps([&] { return finished(); }));
}

TEST_F(PodsApiTest, GatesHoldAPodBackUntilTheirConditionsCome) {
  auto pod = make_pod();
  pod.mutable_spec()->add_readinessgates()->set_conditiontype("lb/attached");
  desire_of_api(pod);
  desire_is_complete();
  start();
  ASSERT_TRUE(until([&] { return phase() == "Running"; }));
  settle();
  EXPECT_FALSE(row().ready);
  EXPECT_FALSE(row().serving);
  auto& gate = *pod.mutable_status()->add_conditions();
  gate.set_type("lb/attached");
  gate.set_status("True");
  desire_of_api(pod);
  EXPECT_TRUE(until([&] { return ready(); }));
}

TEST_F(PodsApiTest, AStartupProbeComesFirstAndIsRemembered) {
  auto pod = make_probed_pod();
  auto& container = *pod.mutable_spec()->mutable_containers(0);
  *container.mutable_startupprobe() = container.readinessprobe();
  container.mutable_startupprobe()->set_failurethreshold(1000);
  runtime.exec_code = 1;
  desire_of_api(pod);
  desire_is_complete();
  start();
  ASSERT_TRUE(until([&] { return agent->happened("Unhealthy", "Startup probe failed: command exited with 1: "); }));
  EXPECT_FALSE(status().containerstatuses(0).started());
  runtime.exec_code = 0;
  ASSERT_TRUE(until([&] { return ready(); }));
  EXPECT_TRUE(status().containerstatuses(0).started());
  runtime.exec_code = 1;
  runtime.held.insert("ExecSync");  // nothing new is known of it
  start();
  ASSERT_TRUE(until([&] { return agent->complete(); }));
  EXPECT_TRUE(ready());
  EXPECT_TRUE(runtime.stops.empty());
}

TEST_F(PodsApiTest, HandlersRunAroundAContainersLife) {
  auto pod = make_pod();
  auto& lifecycle = *pod.mutable_spec()->mutable_containers(0)->mutable_lifecycle();
  *lifecycle.mutable_prestop() = exec("drain");
  *lifecycle.mutable_poststart() = exec("warm");
  run_api_pod(pod);
  EXPECT_EQ(runtime.count("ExecSync"), 1U);
  runtime.held.insert("ExecSync");
  undesire();
  ASSERT_TRUE(until_with_maps([&] { return runtime.count("ExecSync") == 2; }));
  settle();
  EXPECT_TRUE(runtime.stops.empty());
  clock.advance(4s);
  runtime.release();
  ASSERT_TRUE(until_with_maps([&] { return finished(); }));
  EXPECT_EQ(runtime.stops.front().second, 3);  // of 7, the handler took 4
}

TEST_F(PodsApiTest, AFailedPostStartEndsTheContainer) {
  auto pod = make_pod();
  *pod.mutable_spec()->mutable_containers(0)->mutable_lifecycle()->mutable_poststart() = exec("warm");
  runtime.exec_code = 3;
  desire_of_api(pod);
  desire_is_complete();
  start();
  ASSERT_TRUE(until([&] { return !runtime.stops.empty(); }));
  EXPECT_TRUE(agent->happened("FailedPostStartHook", "PostStartHook failed"));
  EXPECT_TRUE(
      until([&] { return agent->happened("Killing", "Container web failed postStart hook, will be restarted"); }));
}

TEST_F(PodsApiTest, AGraceThatIsCutShortReachesWhatIsBeingStopped) {
  run_api_pod(make_pod());
  runtime.held.insert("StopContainer");
  desire_of_api(make_pod(), 60);
  ASSERT_TRUE(until_with_maps([&] { return runtime.stops.size() == 1; }));
  EXPECT_EQ(runtime.stops[0].second, 60);
  desire_of_api(make_pod(), 1);
  ASSERT_TRUE(until_with_maps([&] { return runtime.stops.size() == 2; }));
  EXPECT_EQ(runtime.stops[1].second, 1);
  runtime.release();
  EXPECT_TRUE(until_with_maps([&] { return finished(); }));
}

TEST_F(PodsApiTest, EventsAreKubelets) {
  run_api_pod(make_pod());
  for (const auto& [reason, message] : std::map<std::string, std::string>{
           {"Pulled", "Container image \"image-web\" already present on machine and can be accessed by the pod"},
           {"Created", "Container created"},
           {"Started", "Container started"}}) {
    EXPECT_TRUE(agent->happened(reason, message)) << reason;
  }
  EXPECT_EQ(agent->events.front().field_path, "spec.containers{web}");
  runtime.sandboxes.begin()->second.set_state(api::SANDBOX_NOTREADY);
  runtime.exit("web", 1);
  EXPECT_TRUE(until(
      [&] { return agent->happened("SandboxChanged", "Pod sandbox changed, it will be killed and re-created."); }));
}

TEST_F(PodsApiTest, ReadinessOfContainersThatWentMeanwhileIsForgotten) {
  const std::string file = config.state_dir + "/readiness.json";
  ASSERT_TRUE(write_atomically(file, R"({"version":1,"ready":["gone"],"started":["gone","too"]})", {}));
  run_api_pod(make_pod());
  EXPECT_EQ(read_file(file).value(), R"({"ready":[],"started":[],"version":1})");
}

}  // namespace
}  // namespace fairlead::pods
