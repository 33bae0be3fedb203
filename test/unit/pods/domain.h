// SPDX-License-Identifier: Apache-2.0
// The pods domain over a runtime in memory, with its tables and channels: what the tests of Pods stand on.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/pods/pods.h"
#include "agent/state/table.h"
#include "test/unit/pods/fake_health.h"
#include "test/unit/pods/fake_runtime.h"
#include "test/unit/pods/pod.h"

namespace fairlead::pods {

using namespace std::chrono_literals;

// A life of the agent: what is lost when it restarts. What consumers see of it is kept in `rows` and `statuses`.
class AgentLife {
 public:
  AgentLife(Loop& loop, const Clock& clock, cri::Runtime& runtime, PodsConfig config,
            const state::Table<model::Pod>& pods, const state::Table<model::ConfigData>& config_maps)
      : health_(loop), reader_(local_pods.reader()) {
    auto [applied, applied_in] = make_channel<model::Applied>();
    auto [status_out, status_in] = make_channel<model::PodStatusUpdate>();
    auto [caller, responder] = make_request<Inspect, Json>();
    auto [wants_out, wants_in] = make_channel<model::ConfigWant>();
    auto [events_out, events_in] = make_channel<model::EventNote>();
    auto [statics_out, statics_in] = make_channel<model::StaticPod>();
    auto [token_caller, token_responder] = make_request<model::TokenAsk, model::ServiceAccountToken>();
    wants_ = std::move(wants_in);
    events_ = std::move(events_in);
    statics_ = std::move(statics_in);
    tokens_ = std::move(token_responder);
    wants_.attach(loop, [this](const auto& news) {
      for (const auto& want : news) wanted[want.object] = want.wanted;
    });
    events_.attach(loop, [this](const auto& news) { events.insert(events.end(), news.begin(), news.end()); });
    statics_.attach(loop, [this](const auto& news) {
      for (const auto& pod : news) statics[pod.id.uid] = pod.object != nullptr;
    });
    tokens_.attach(loop, [this, &clock](const model::TokenAsk& ask, auto reply) {
      reply(model::ServiceAccountToken{
          fmt::format("token-{}", ++tokens_given),
          clock.wall() + (token_life ? *token_life : std::chrono::seconds(ask.expiration_s))});
    });
    applied_ = applied;
    statuses_ = std::move(status_in);
    inspect = caller;
    statuses_.attach(loop, [this](const auto& news) {
      for (const auto& status : news) statuses[status.id.uid] = status;
    });
    reader_.attach(loop, [this](auto delta) {
      for (const auto& change : delta.changes) rows.push_back(change.after);
      revision = delta.revision;
    });
    pods_ = std::make_unique<Pods>(loop, clock,
                                   Pods::Deps{.config = std::move(config),
                                              .pods = pods.reader(),
                                              .config_maps = config_maps.reader(),
                                              .secrets = secrets_.reader(),
                                              .services = services_.reader(),
                                              .runtime = runtime,
                                              .health = health_,
                                              .local_pods = local_pods.writer("local"),
                                              .applied = std::move(applied_in),
                                              .statuses = status_out,
                                              .config_wants = wants_out,
                                              .events = events_out,
                                              .static_pods = statics_out,
                                              .tokens = token_caller,
                                              .api_source = "api",
                                              .requests = std::move(responder),
                                              .registry = registry_});
    pods_->start();
  }

  state::Table<model::LocalPod> local_pods{{"local"}};
  std::vector<std::shared_ptr<const model::LocalPod>> rows;  // as they came; nullptr: erased
  Revision revision = 0;                                     // of the table, as a consumer was told last
  std::map<std::string, model::PodStatusUpdate> statuses;    // by uid, the last one
  std::map<std::string, bool> wanted;                        // by "namespace/name"
  std::vector<model::EventNote> events;                      // as they came
  std::map<std::string, bool> statics;                       // by uid: whether it is there; "": all have been told
  int tokens_given = 0;
  std::optional<Duration> token_life;  // nullopt: as asked
  Caller<Inspect, Json> inspect;

  bool happened(const std::string& reason, const std::string& message = {}) const {
    return std::ranges::any_of(events, [&](const model::EventNote& event) {
      return event.reason == reason && (message.empty() || event.message == message);
    });
  }
  bool complete() const { return local_pods.missing().empty(); }
  void apply(Revision up_to) { applied_.send({.consumer = "services", .revision = up_to, .failed = {}}); }
  double drain_timeouts() const {
    for (const auto& family : registry_.Collect()) {
      if (family.name == "fairlead_pod_drain_timeouts_total") return family.metric.front().counter.value;
    }
    return -1;
  }

 private:
  FakeHealth health_;
  state::Table<model::ConfigData> secrets_{std::vector<std::string>()};
  state::Table<model::Service> services_{std::vector<std::string>()};
  metrics::Registry registry_;
  state::TableReader<model::LocalPod> reader_;
  Sender<model::Applied> applied_;
  Receiver<model::PodStatusUpdate> statuses_;
  Receiver<model::ConfigWant> wants_;
  Receiver<model::EventNote> events_;
  Receiver<model::StaticPod> statics_;
  Responder<model::TokenAsk, model::ServiceAccountToken> tokens_;
  std::unique_ptr<Pods> pods_;
};

// The clock stands still unless a test moves it: what waits for it waits however long the loop runs.
class PodsDomainTest : public ::testing::Test {
 protected:
  Loop loop;
  ManualClock clock;
  FakeRuntime runtime{clock};
  const std::string folder =
      std::filesystem::path(::testing::TempDir()) /
      ("fairlead-" + std::to_string(getpid()) + "-" + ::testing::UnitTest::GetInstance()->current_test_info()->name());
  PodsConfig config{.node_name = "n1",
                    .node_ips = {},
                    .state_dir = folder + "/state",
                    .log_root = folder + "/logs",
                    .cgroup_prefix = "",
                    .cgroup_roots = {},
                    .dns = {.cluster_servers = {*IpAddress::parse("10.96.0.10")},
                            .cluster_domain = "cluster.local",
                            .resolv_conf = ""},
                    .drain_delay = 100ms,
                    .drain_patience = 1h,
                    .relist = 1ms};
  state::Table<model::Pod> pods{{"test"}};
  state::Table<model::ConfigData> config_maps{std::vector<std::string>()};
  std::optional<AgentLife> agent;

  PodsDomainTest() { std::filesystem::create_directories(config.state_dir); }
  ~PodsDomainTest() override {
    agent.reset();
    std::filesystem::remove_all(folder);
  }

  // Ends the agent that there is, as a crash would, and starts one.
  void start() {
    agent.reset();
    agent.emplace(loop, clock, runtime, config, pods, config_maps);
  }

  void desire(const k8s::Pod& pod, std::optional<std::int64_t> deletion_grace_s = {},
              const std::string& source = "test") {
    const auto& meta = pod.metadata();
    pods.writer("test").upsert(meta.uid(), {.id = {meta.namespace_(), meta.name(), meta.uid()},
                                            .object = std::make_shared<const k8s::Pod>(pod),
                                            .source = source,
                                            .deletion_grace_s = deletion_grace_s});
  }
  void undesire(const std::string& uid = "u1") { pods.writer("test").erase(uid); }
  void desire_is_complete() { pods.writer("test").set_complete(); }

  // Runs the loop until `done`; false: it never came to be.
  template <class Done>
  [[nodiscard]] bool until(Done done) {
    const auto limit = std::chrono::steady_clock::now() + 20s;
    while (!done()) {
      if (std::chrono::steady_clock::now() > limit) return false;
      loop.poll();
    }
    return true;
  }
  // Runs the loop while the domain lists all pods, or asks for the runtime's name, a few times over: what it does
  // without being told is done then.
  void settle() {
    const auto asked = [this] { return runtime.count("ListPodSandbox") + runtime.count("Version"); };
    const std::size_t enough = asked() + 5;
    EXPECT_TRUE(until([&] { return asked() >= enough; }));
  }

  // Runs all that is queued, and what comes of it.
  void settle_events() {
    for (int i = 0; i < 50; ++i) loop.poll();
  }

  model::LocalPod row(const std::string& uid = "u1") const {
    const auto found = agent->local_pods.get(uid);
    return found ? *found : model::LocalPod();
  }
  bool ready(const std::string& uid = "u1") const { return row(uid).ready; }
  std::string phase(const std::string& uid = "u1") const {
    const auto at = agent->statuses.find(uid);
    return at == agent->statuses.end() ? "" : at->second.status->phase();
  }
  bool finished(const std::string& uid = "u1") const {
    const auto at = agent->statuses.find(uid);
    return at != agent->statuses.end() && at->second.finished;
  }

  // A started agent with one pod that is ready.
  void run_pod(const k8s::Pod& pod = make_pod()) {
    desire(pod);
    desire_is_complete();
    start();
    ASSERT_TRUE(until([&] { return ready(pod.metadata().uid()) && agent->complete(); }));
  }
};

inline k8s::Pod make_named_pod(const std::string& name, const std::string& uid) {
  k8s::Pod pod = make_pod();
  pod.mutable_metadata()->set_name(name);
  pod.mutable_metadata()->set_uid(uid);
  return pod;
}

// A pod whose container is ready when an exec in it says so.
inline k8s::Pod make_probed_pod() {
  k8s::Pod pod = make_pod();
  auto& probe = *pod.mutable_spec()->mutable_containers(0)->mutable_readinessprobe();
  probe.mutable_handler()->mutable_exec()->add_command("check");
  probe.set_periodseconds(1);
  probe.set_timeoutseconds(1);
  probe.set_successthreshold(1);
  probe.set_failurethreshold(1);
  return pod;
}

}  // namespace fairlead::pods
