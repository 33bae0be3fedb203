// SPDX-License-Identifier: Apache-2.0
#include "bench/policy/control.h"

#include <k8s/pod.pb.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <random>
#include <set>
#include <vector>

#include "agent/policy/policy.h"
#include "agent/state/table.h"
#include "bench/policy/counted_maps.h"

namespace fairlead::bench {
namespace {

constexpr unsigned kNamespaces = 100;
constexpr unsigned kPods = 10'000;
constexpr unsigned kOwnPods = 110;
constexpr unsigned kPoliciesPerNamespace = 10;
constexpr unsigned kApps = 10;
constexpr std::size_t kRounds = 300;
constexpr double kGoalMs = 20;
constexpr auto kGrace = std::chrono::milliseconds(20);  // the agent's is longer; here one change follows the other

std::string ns(unsigned number) {
  return fmt::format("ns-{}", number % kNamespaces);
}

model::Labels labels(unsigned number, unsigned app) {
  return {{"app", fmt::format("app-{}", app % kApps)}, {"set", fmt::format("set-{}", number % 101)}, {"tier", "web"}};
}

IpAddress address(unsigned number) {
  return IpAddress::from_v4({10, static_cast<std::uint8_t>(1 + number / 200 / 200),
                             static_cast<std::uint8_t>(number / 200 % 200),
                             static_cast<std::uint8_t>(1 + number % 200)});
}

model::ObjectId pod_id(unsigned number) {
  return {ns(number), fmt::format("pod-{}", number), fmt::format("uid-{}", number)};
}

// A policy of one app: in from another one of the namespace and from all pods of a team's namespaces, out to a block.
model::NetworkPolicy policy(unsigned space, unsigned number, unsigned peer, std::uint16_t port) {
  const auto app = [](unsigned each) {
    return model::Selector::from_labels({{"app", fmt::format("app-{}", each % kApps)}});
  };
  model::NetworkPolicy row{{ns(space), fmt::format("policy-{}", number), ""}, app(number)};
  row.isolates_egress = true;
  row.ingress.push_back({.ports = {{Protocol::kTcp, port}},
                         .peers = {{.pods = app(peer)},
                                   {.namespaces = model::Selector::from_labels({{"team", fmt::format("{}", number)}}),
                                    .pods = app(peer)}}});
  row.egress.push_back(
      {.any_port = true,
       .peers = {{.block = model::IpBlock{Cidr::parse("0.0.0.0/0").value(), {Cidr::parse("10.0.0.0/8").value()}}}}});
  return row;
}

// The same policy, whose pods let in half of the cluster's pods instead.
model::NetworkPolicy wide_policy(unsigned space, unsigned number, std::uint16_t port) {
  model::NetworkPolicy row = policy(space, number, number, port);
  std::set<std::string> apps;
  for (unsigned app = 0; app < kApps / 2; ++app) apps.insert(fmt::format("app-{}", app));
  row.ingress[0].peers = {{.namespaces = model::Selector(),
                           .pods = model::Selector({{"app", model::Selector::Operator::kIn, std::move(apps)}})}};
  return row;
}

// The domain with its tables, turned by hand.
class World {
 public:
  explicit World(datapath::PolicyMaps& inner) : maps(inner) {
    for (unsigned i = 0; i < kNamespaces; ++i) {
      namespaces_.writer("bench").upsert(ns(i), model::Namespace{ns(i), {{"team", fmt::format("{}", i % 10)}}});
      for (unsigned j = 0; j < kPoliciesPerNamespace; ++j) set_policy(i, j, j + 1, 80);
    }
    for (unsigned i = kOwnPods; i < kPods; ++i) set_peer(i, i);
    for (unsigned i = 0; i < kOwnPods; ++i) {
      auto object = std::make_shared<k8s::Pod>();
      auto& meta = *object->mutable_metadata();
      const model::ObjectId id = pod_id(i);
      meta.set_namespace_(id.ns);
      meta.set_name(id.name);
      meta.set_uid(id.uid);
      for (const auto& [key, value] : labels(i, i)) (*meta.mutable_labels())[key] = value;
      pods_.writer("bench").upsert(id.uid, model::Pod{id, std::move(object), "bench", {}});
      endpoints_.writer("bench").upsert(
          id.uid, model::ServedNetns{.cookie = i, .path = "", .addresses = {address(i)}, .ifindex = i + 1, .pod = id});
    }
    policies_.writer("bench").set_complete();
    namespaces_.writer("bench").set_complete();
    peers_.writer("bench").set_complete();
    pods_.writer("bench").set_complete();
    endpoints_.writer("bench").set_complete();
    auto [caller, responder] = make_request<Inspect, Json>();
    ask_ = caller;
    domain_ = std::make_unique<policy::Policy>(loop_, clock_,
                                               policy::Policy::Deps{.node = "bench",
                                                                    .policies = policies_.reader(),
                                                                    .namespaces = namespaces_.reader(),
                                                                    .peers = peers_.reader(),
                                                                    .pods = pods_.reader(),
                                                                    .endpoints = endpoints_.reader(),
                                                                    .maps = maps,
                                                                    .pod_policies = rows_.writer("policy"),
                                                                    .registry = registry_,
                                                                    .inspect = std::move(responder),
                                                                    .grace = kGrace});
  }

  void set_policy(unsigned space, unsigned number, unsigned peer, std::uint16_t port) {
    set_policy(policy(space, number, peer, port));
  }
  void set_policy(model::NetworkPolicy row) {
    const std::string key = row.id.key();
    policies_.writer("bench").upsert(key, std::move(row));
  }
  void set_peer(unsigned number, unsigned app) {
    peers_.writer("bench").upsert(
        pod_id(number).uid,
        model::PeerPod{.id = pod_id(number), .labels = labels(number, app), .ips = {address(number)}, .node = "else"});
  }
  void drop_all() {
    policies_.writer("bench").replace({});
    peers_.writer("bench").replace({});
    pods_.writer("bench").replace({});
    endpoints_.writer("bench").replace({});
  }

  CountedMaps maps;

  // Turns the loop until what an earlier change left is erased: the agent does that seconds later.
  Result<> rest() {
    const auto until = std::chrono::steady_clock::now() + 3 * kGrace;
    while (std::chrono::steady_clock::now() < until) FL_TRY(ask());
    return {};
  }

  // Turns the loop until all is in the maps.
  Result<> settle() {
    while (true) {
      loop_.poll();
      FL_LET(const Json state, ask());
      if (!state["failing"].empty()) return fail(Code::kExhausted, "{}", state["failing"].dump());
      if (state["synced"] == true) return {};
    }
  }
  std::string sizes() {
    const auto state = ask();
    if (!state) return state.error().message();
    return fmt::format("{} identities, {} rule sets", (*state)["identities"].dump(), (*state)["rule_sets"].dump());
  }

 private:
  Result<Json> ask() {
    std::optional<Result<Json>> answer;
    ask_.call(loop_, Inspect{"policy.sync", {}}, std::chrono::minutes(1),
              [&](Result<Json> result) { answer = result; });
    while (!answer) loop_.poll();
    return *answer;
  }

  state::Table<model::NetworkPolicy> policies_{{"bench"}};
  state::Table<model::Namespace> namespaces_{{"bench"}};
  state::Table<model::PeerPod> peers_{{"bench"}};
  state::Table<model::Pod> pods_{{"bench"}};
  state::Table<model::ServedNetns> endpoints_{{"bench"}};
  state::Table<model::PodPolicy> rows_{{"policy"}};
  SystemClock clock_;
  Loop loop_;
  metrics::Registry registry_;
  Caller<Inspect, Json> ask_;
  std::unique_ptr<policy::Policy> domain_;
};

double milliseconds(std::chrono::steady_clock::duration time) {
  return std::chrono::duration<double, std::milli>(time).count();
}

// The 99th percentile of sorted samples, as a number without an interval.
Estimate p99(const std::vector<double>& samples) {
  const double value = samples[samples.size() * 99 / 100];
  return {value, value, value};
}

Result<> measure_changes(World& world, const std::string& what, const std::function<void(std::size_t)>& change,
                         std::size_t rounds, Report& report) {
  std::vector<double> samples;
  std::size_t most = 0;
  for (std::size_t i = 0; i < rounds; ++i) {
    FL_TRY(world.rest());
    world.maps.take();
    const auto begin = std::chrono::steady_clock::now();
    change(i);
    FL_TRY(world.settle());
    samples.push_back(milliseconds(std::chrono::steady_clock::now() - begin));
    most = std::max(most, world.maps.take());
  }
  std::ranges::sort(samples);
  report.add({.text = fmt::format("control: {} into the maps, p99 (median {:.1f}; up to {} entries; {})", what,
                                  samples[samples.size() / 2], most, world.sizes()),
              .unit = "ms",
              .us = p99(samples),
              .goal = kGoalMs});
  return {};
}

}  // namespace

Result<> measure_control(datapath::PolicyMaps& maps, Report& report) {
  const auto begin = std::chrono::steady_clock::now();
  World world(maps);
  FL_TRY(world.settle());
  const double start = milliseconds(std::chrono::steady_clock::now() - begin);
  report.add(
      {.text = "control: 1,000 policies and 10,000 pods into empty maps", .unit = "ms", .us = {start, start, start}});

  std::mt19937 random(1);
  const auto below = [&](unsigned limit) { return static_cast<unsigned>(random() % limit); };
  FL_TRY(measure_changes(
      world, "a label of one pod of 10,000",
      [&](std::size_t) { world.set_peer(kOwnPods + below(kPods - kOwnPods), below(kApps)); }, kRounds, report));
  FL_TRY(measure_changes(
      world, "one policy of 1,000",
      [&](std::size_t i) {
        world.set_policy(below(kNamespaces), below(kPoliciesPerNamespace), below(kApps),
                         static_cast<std::uint16_t>(1000 + i));
      },
      kRounds, report));
  // A policy of this node's pods each time, with as many peers as may change in the time that is promised.
  FL_TRY(measure_changes(
      world, "one policy of 1,000 with half of the cluster's pods as peers",
      [&](std::size_t i) { world.set_policy(wide_policy(0, 0, static_cast<std::uint16_t>(2000 + i))); }, kRounds / 4,
      report));
  world.drop_all();
  return world.settle();
}

}  // namespace fairlead::bench
