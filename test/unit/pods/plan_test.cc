// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/plan.h"

#include <gtest/gtest.h>

#include "test/unit/pods/pod.h"

namespace fairlead::pods {
namespace {

constexpr auto kRunning = RunState::kRunning;
constexpr auto kExited = RunState::kExited;

// "create web#1 streak 1", …: a plan as text, so that a table reads.
std::string text(const Action& action) {
  switch (action.what) {
    case Do::kSetUpVolumes:
      return "volumes";
    case Do::kCreateSandbox:
      return fmt::format("sandbox#{}{}", action.attempt, action.id.empty() ? "" : " for " + action.id);
    case Do::kCreateContainer:
      return fmt::format("create {}#{} streak {}", action.name, action.attempt, action.streak);
    case Do::kStartContainer:
      return "start " + action.id;
    case Do::kKillContainer:
      return fmt::format("kill {} {}s {}", action.id, action.grace_s, action.reason);
    case Do::kStopSandbox:
      return "stop " + action.id;
    case Do::kTearDown:
      return "teardown";
    case Do::kRemoveContainer:
      return "remove " + action.id;
    case Do::kRemoveSandbox:
      return "remove " + action.id;
  }
  return "?";
}

struct Case {
  const char* what;
  k8s::Pod pod;
  PodRuntimeView view;
  std::vector<std::string> want;
  std::optional<std::int64_t> wake = {};  // seconds
  PodHistory history = {.volumes_ready = true};
  std::int64_t now = 100;
};

void check(const std::vector<Case>& cases) {
  for (const Case& one : cases) {
    const Plan plan = plan_pod_actions(one.pod.spec(), one.view, one.history, at(one.now));
    std::vector<std::string> got;
    for (const Action& action : plan.actions) got.push_back(text(action));
    EXPECT_EQ(got, one.want) << one.what;
    EXPECT_EQ(plan.wake, one.wake ? std::optional(at(*one.wake)) : std::nullopt) << one.what;
    EXPECT_FALSE(plan.gone) << one.what;
  }
}

PodHistory failing(const std::string& key, std::int64_t until) {
  PodHistory history{.volumes_ready = true};
  history.failures[key] = {.reason = "E", .message = "", .count = 1, .until = at(until)};
  return history;
}

TEST(PodPlan, Starts) {
  check({
      {"volumes first", make_pod(), {}, {"volumes"}, {}, {}},
      {"volumes wait",
       make_pod(),
       {},
       {},
       200,
       [] {
         PodHistory history = failing(kVolumesKey, 200);
         history.volumes_ready = false;
         return history;
       }()},
      {"then the sandbox", make_pod(), {}, {"sandbox#0"}},
      {"a failed sandbox waits", make_pod(), {}, {}, 130, failing(kSandboxKey, 130)},
      {"a failed sandbox comes again", make_pod(), {}, {"sandbox#0"}, {}, failing(kSandboxKey, 100)},
      {"containers at once",
       make_pod("Always", {"a", "b"}),
       {{sandbox()}, {}},
       {"create a#0 streak 0", "create b#0 streak 0"}},
      {"one waits for its image, the other does not",
       make_pod("Always", {"a", "b"}),
       {{sandbox()}, {}},
       {"create b#0 streak 0"},
       120,
       failing("a", 120)},
      {"a created container is started",
       make_pod(),
       {{sandbox()}, {container("web", RunState::kCreated)}},
       {"start web0"}},
      {"nothing left to do", make_pod(), {{sandbox()}, {container("web", kRunning)}}, {}},
      {"adopted: volumes again, before anything is made",
       make_pod("Always", {"a", "b"}),
       {{sandbox()}, {container("a", kRunning)}},
       {"volumes"},
       {},
       {}},
  });
}

TEST(PodPlan, InitContainers) {
  const auto pod = [](const char* policy) { return make_pod(policy, {"web"}, {"i", "j"}); };
  check({
      {"first", pod("Always"), {{sandbox()}, {}}, {"create i#0 streak 0"}},
      {"waits for its end", pod("Always"), {{sandbox()}, {container("i", kRunning)}}, {}},
      {"second", pod("Always"), {{sandbox()}, {container("i", kExited)}}, {"create j#0 streak 0"}},
      {"app",
       pod("Always"),
       {{sandbox()}, {container("i", kExited), container("j", kExited)}},
       {"create web#0 streak 0"}},
      {"failed: again", pod("Always"), {{sandbox()}, {container("i", kExited, 0, 1)}}, {"create i#1 streak 1"}},
      {"OnFailure: again", pod("OnFailure"), {{sandbox()}, {container("i", kExited, 0, 1)}}, {"create i#1 streak 1"}},
      {"failed again: back-off", pod("Always"), {{sandbox()}, {container("i", kExited, 1, 1, 95, 1)}}, {}, 105},
      {"Never: the pod failed", pod("Never"), {{sandbox()}, {container("i", kExited, 0, 1)}}, {"stop s0"}},
      {"not again once the app ran", pod("Always"), {{sandbox()}, {container("web", kRunning)}}, {}},
      {"again in a new sandbox",
       pod("Always"),
       {{sandbox(0, false), sandbox(1)},
        {container("i", kExited), container("j", kExited), container("web", kExited, 0, 137)}},
       {"create i#1 streak 1"}},
  });
}

TEST(PodPlan, RestartPolicy) {
  const auto one = [](const char* policy, ContainerView view) {
    return std::pair{make_pod(policy), PodRuntimeView{{sandbox()}, {std::move(view)}}};
  };
  struct Row {
    const char* policy;
    int exit_code;
    std::vector<std::string> want;
  };
  for (const Row& row : std::vector<Row>{{"Always", 0, {"create web#1 streak 1"}},
                                         {"Always", 1, {"create web#1 streak 1"}},
                                         {"OnFailure", 0, {"stop s0"}},
                                         {"OnFailure", 1, {"create web#1 streak 1"}},
                                         {"Never", 0, {"stop s0"}},
                                         {"Never", 1, {"stop s0"}}}) {
    auto [pod, view] = one(row.policy, container("web", kExited, 0, row.exit_code));
    check({{row.policy, pod, view, row.want}});
  }
}

TEST(PodPlan, CrashBackoff) {
  struct Row {
    unsigned streak;
    std::int64_t wait;
  };
  for (const Row& row : {Row{1, 10}, {2, 20}, {3, 40}, {4, 80}, {5, 160}, {6, 300}, {60, 300}}) {
    const PodRuntimeView view{{sandbox()}, {container("web", kExited, row.streak, 1, 100, row.streak)}};
    check({{"waits", make_pod(), view, {}, 100 + row.wait},
           {"comes",
            make_pod(),
            view,
            {fmt::format("create web#{} streak {}", row.streak + 1, row.streak + 1)},
            {},
            {.volumes_ready = true},
            100 + row.wait}});
  }
  check({{"a run of ten minutes forgets",
          make_pod(),
          {{sandbox()}, {container("web", kExited, 9, 1, 600, 9)}},
          {"create web#10 streak 0"},
          {},
          {.volumes_ready = true},
          600},
         {"one second less does not",
          make_pod(),
          {{sandbox()}, {container("web", kExited, 9, 1, 599, 9)}},
          {},
          899,
          {.volumes_ready = true},
          600}});
}

TEST(PodPlan, KillsForAReason) {
  PodHistory sick{.volumes_ready = true};
  sick.unhealthy["web0"] = "failed liveness probe";
  auto changed = make_pod();
  changed.mutable_spec()->mutable_containers(0)->set_image("other");
  check({
      {"liveness", make_pod(), {{sandbox()}, {container("web", kRunning)}}, {"kill web0 7s Unhealthy"}, {}, sick},
      {"then restarts",
       make_pod(),
       {{sandbox()}, {container("web", kExited, 0, 137)}},
       {"create web#1 streak 1"},
       {},
       sick},
      {"with Never it stays dead",
       make_pod("Never"),
       {{sandbox()}, {container("web", kExited, 0, 137)}},
       {"stop s0"},
       {},
       sick},
      {"a new image", changed, {{sandbox()}, {container("web", kRunning)}}, {"kill web0 7s Changed"}},
      {"a new image's first start is not a crash's",
       changed,
       {{sandbox()}, {container("web", kExited, 4, 0, 99, 4)}},
       {"create web#5 streak 5"}},
      {"unknown", make_pod(), {{sandbox()}, {container("web", RunState::kUnknown)}}, {"kill web0 7s Unknown"}},
  });
}

TEST(PodPlan, DeadSandbox) {
  check({
      {"what runs in it is killed",
       make_pod(),
       {{sandbox(0, false)}, {container("web", kRunning)}},
       {"kill web0 7s SandboxChanged"}},
      {"then a new one", make_pod(), {{sandbox(0, false)}, {container("web", kExited, 0, 137)}}, {"sandbox#1 for s0"}},
      {"an older one goes", make_pod(), {{sandbox(0, false), sandbox(1, false)}, {}}, {"remove s0"}},
      {"containers go on in the new one",
       make_pod(),
       {{sandbox(0, false), sandbox(1)}, {container("web", kExited, 0, 137)}},
       {"create web#1 streak 1"}},
      {"left alive in an old one",
       make_pod(),
       {{sandbox(0, false), sandbox(1)}, {container("web", kRunning)}},
       {"kill web0 7s SandboxChanged"}},
      {"an emptied one goes",
       make_pod(),
       {{sandbox(0, false), sandbox(1)}, {container("web", kRunning, 1, 0, 5, 1, 1)}},
       {"remove s0"}},
      {"Never: what ran does not run again",
       make_pod("Never", {"a", "b"}),
       {{sandbox(0, false)}, {container("a", kExited)}},
       {}},
      {"Never, before anything ran", make_pod("Never"), {{sandbox(0, false)}, {}}, {"sandbox#1 for s0"}},
      {"OnFailure: only what failed",
       make_pod("OnFailure", {"a", "b"}),
       {{sandbox(0, false), sandbox(1)}, {container("a", kExited), container("b", kExited, 0, 2)}},
       {"create b#1 streak 1"}},
  });
}

TEST(PodPlan, KeepsTwoOfAName) {
  check({{"the third goes",
          make_pod(),
          {{sandbox()},
           {container("web", kExited, 0, 1), container("web", kExited, 1, 1), container("web", kRunning, 2)}},
          {"remove web0"}}});
}

// As the runtime shows a start whose caller went away.
TEST(PodPlan, AStartThatWasCutOffIsAsIfItHadNotBeen) {
  const auto cut_off = [](const std::string& name, std::uint32_t attempt) {
    ContainerView view = container(name, kExited, attempt, 128);
    view.started = {};
    view.reason = "StartError";
    view.message = "failed to start containerd task \"x\": context canceled: unknown";
    return view;
  };
  check({
      {"it is removed", make_pod(), {{sandbox()}, {cut_off("web", 0)}}, {"remove web0"}},
      {"the one before it counts",
       make_pod(),
       {{sandbox()}, {container("web", kExited, 0, 1, 95), cut_off("web", 1)}},
       {"remove web1"}},
      {"with Never, too", make_pod("Never"), {{sandbox()}, {cut_off("web", 0)}}, {"remove web0"}},
      {"of an init container", make_pod("Never", {"web"}, {"i"}), {{sandbox()}, {cut_off("i", 0)}}, {"remove i0"}},
  });
  check({
      {"one that is not removed holds up nothing",
       make_pod(),
       {{sandbox()}, {cut_off("web", 0)}},
       {"create web#1 streak 1"},
       105,
       failing("/end/web0", 105)},
      {"with Never, too",
       make_pod("Never"),
       {{sandbox()}, {cut_off("web", 0)}},
       {"create web#1 streak 1"},
       105,
       failing("/end/web0", 105)},
      {"of an init container",
       make_pod("Never", {"web"}, {"i"}),
       {{sandbox()}, {cut_off("i", 0)}},
       {"create i#1 streak 1"},
       105,
       failing("/end/i0", 105)},
      {"nor does an old sandbox",
       make_pod(),
       {{sandbox(0, false), sandbox(1, false)}, {}},
       {"sandbox#2 for s1"},
       105,
       failing("/end/s0", 105)},
  });
  ContainerView bad = cut_off("web", 0);
  bad.message = "exec: \"nope\": executable file not found in $PATH";
  check({{"what cannot be started failed", make_pod("Never"), {{sandbox()}, {bad}}, {"stop s0"}}});
}

TEST(PodPlan, RefusedNeverRuns) {
  PodHistory refused{.volumes_ready = true};
  refused.refused = Failure{.reason = "UnsupportedField", .message = "m"};
  check({{"nothing", make_pod(), {}, {}, {}, refused},
         {"what runs is ended",
          make_pod(),
          {{sandbox()}, {container("web", kRunning)}},
          {"kill web0 7s Completed"},
          {},
          refused}});
}

TEST(PodPlan, Ends) {
  const PodHistory ending{.ending_grace_s = 3, .volumes_ready = true};
  const auto pod = make_pod("Always", {"a", "b"});
  check({
      {"all at once",
       pod,
       {{sandbox()}, {container("a", kRunning), container("b", kRunning)}},
       {"kill a0 3s Killing", "kill b0 3s Killing"},
       {},
       ending},
      {"then the sandbox",
       pod,
       {{sandbox()}, {container("a", kExited), container("b", kExited)}},
       {"stop s0"},
       {},
       ending},
      {"volumes and cgroups before the runtime forgets",
       pod,
       {{sandbox(0, false)}, {container("a", kExited)}},
       {"teardown"},
       {},
       ending},
      {"volumes without a sandbox", pod, {}, {"teardown"}, {}, ending},
  });
  const auto lately_failed = [&](const std::string& key) {
    PodHistory history = failing(key, 105);
    history.ending_grace_s = 3;
    return history;
  };
  check({
      {"a kill that failed waits",
       pod,
       {{sandbox()}, {container("a", kRunning), container("b", kRunning)}},
       {"kill b0 3s Killing"},
       105,
       lately_failed("/end/a0")},
      {"the sandbox after it",
       pod,
       {{sandbox()}, {container("a", kRunning), container("b", kExited)}},
       {},
       105,
       lately_failed("/end/a0")},
      {"what is torn down later is removed later",
       pod,
       {{sandbox(0, false)}, {container("a", kExited)}},
       {},
       105,
       lately_failed("/end/")},
  });
  PodHistory done = ending;
  done.torn_down = true;
  const Plan plan = plan_pod_actions(pod.spec(), {}, done, at(0));
  EXPECT_TRUE(plan.gone);
  EXPECT_TRUE(plan.actions.empty());
}

TEST(PodPlan, WhatTheRuntimeDoesNotRemoveIsTriedAgainButNotWaitedForForEver) {
  const auto pod = make_pod("Always", {"a", "b"});
  const PodRuntimeView view{{sandbox(0, false)}, {container("a", kExited), container("b", kExited)}};
  PodHistory history = failing("/end/a0", 105);
  history.ending_grace_s = 3;
  history.torn_down = true;
  check({{"the others go first", pod, view, {"remove b0", "remove s0"}, 105, history},
         {"then again", pod, view, {"remove a0", "remove b0", "remove s0"}, {}, history, 105}});
  history.failures["/end/a0"].count = 7;
  check({{"it holds up nothing else", pod, view, {"remove b0", "remove s0"}, {}, history}});
  EXPECT_FALSE(plan_pod_actions(pod.spec(), {{}, {view.containers.back()}}, history, at(100)).gone);
  EXPECT_TRUE(plan_pod_actions(pod.spec(), {{}, {view.containers.front()}}, history, at(100)).gone);
}

TEST(PodPlan, HashCoversNameAndImage) {
  auto one = make_container("web");
  const std::string hash = container_hash(one);
  one.add_command("x");
  EXPECT_EQ(container_hash(one), hash);
  one.set_image("y");
  EXPECT_NE(container_hash(one), hash);
  k8s::Container left, right;
  left.set_name("ab");
  left.set_image("c");
  right.set_name("a");
  right.set_image("bc");
  EXPECT_NE(container_hash(left), container_hash(right));
}

TEST(RetryDelay, GrowsForContainersAndStaysForWhatAPodWaitsFor) {
  EXPECT_EQ(retry_delay("web", 1), std::chrono::seconds(10));
  EXPECT_EQ(retry_delay("web", 3), std::chrono::seconds(40));
  EXPECT_EQ(retry_delay(kSandboxKey, 7), std::chrono::seconds(10));
  EXPECT_EQ(retry_delay(kVolumesKey, 7), std::chrono::seconds(10));
}

}  // namespace
}  // namespace fairlead::pods
