// SPDX-License-Identifier: Apache-2.0
#include "test/bpf/model_world.h"

#include <linux/pkt_cls.h>

#include <algorithm>

namespace fairlead::model {
namespace {

constexpr std::uint32_t kOtherDevice = 99;

bool same(const Outcome& expected, const testkit::Verdict& actual) {
  return expected.action == actual.action && (actual.action == TC_ACT_SHOT || expected.packet == actual.packet);
}

std::string outcome_words(int action, const Bytes& packet) {
  return fmt::format("{} {}", action, action == TC_ACT_SHOT ? "" : words(packet));
}

std::string hex(const Bytes& bytes) {
  return fmt::format("{:02x}", fmt::join(bytes, ""));
}

std::string words_of(const std::vector<datapath::PortRange>& ranges) {
  std::string out;
  for (const auto& range : ranges) out += fmt::format(" {}:{}-{}", range.protocol, range.first, range.last);
  return out;
}

std::string policy_words(const datapath::PolicyContents& policy) {
  std::string out = "policy:";
  for (const auto& [address, identity] : policy.addresses) out += fmt::format(" {}={}", address, identity);
  for (const auto& [cidr, identity] : policy.cidrs) out += fmt::format(" {}={}", cidr, identity);
  for (const auto& [number, set] : policy.rules) {
    out += fmt::format("; rules {}: any{}", number, words_of(set.any_peer));
    for (const auto& [peer, ranges] : set.peers) out += fmt::format(", {}{}", peer, words_of(ranges));
  }
  return out;
}

}  // namespace

std::string words(const Step& step) {
  switch (step.kind) {
    case Step::Kind::kFromPod:
      return fmt::format("from pod {}: {}", step.pod, words(step.frame));
    case Step::Kind::kHostToPod:
      return fmt::format("to pod {}{}: {}", step.pod, step.from_node ? " from the node" : "", words(step.frame));
    case Step::Kind::kPolicy:
      return policy_words(step.policy);
    case Step::Kind::kBind:
      return fmt::format("pod {} has rules {} for ingress, {} for egress", step.pod, step.ingress_rules,
                         step.egress_rules);
    case Step::Kind::kApply: {
      std::string out = fmt::format("apply {}:", step.service);
      for (const auto& f : step.entry.frontends)
        out += fmt::format(" {}:{}/{}", f.address.str(), f.port, static_cast<int>(f.protocol));
      out += " →";
      for (const auto& b : step.entry.backends) out += fmt::format(" {}:{}", b.address.str(), b.port);
      for (const auto& b : step.entry.draining) out += fmt::format(" ({}:{})", b.address.str(), b.port);
      out += fmt::format(" {}", to_string(step.entry.balancing));
      return out +
             (step.entry.affinity_timeout_s == 0 ? "" : fmt::format(" affinity {} s", step.entry.affinity_timeout_s));
    }
    case Step::Kind::kRemove:
      return "remove " + step.service;
    case Step::Kind::kTime:
      return fmt::format("{} s pass", step.time.count());
  }
  return {};
}

Result<std::unique_ptr<World>> World::open() {
  std::unique_ptr<World> world(new World);
  // Hashes that are read whole over and over are small.
  datapath::PodCapacities capacities{.services = {.affinities = 1024},
                                     .policy = {.addresses = 256, .cidrs = 256, .peers = 256}};
  FL_LET(world->path_, testkit::DataPath::open("fairlead", capacities));
  FL_LET(world->balancer_, datapath::BpfLoadBalancer::open(world->path_->sockets()));
  FL_LET(world->policy_, datapath::BpfPolicyMaps::open(world->path_->pods()));
  for (std::uint8_t number = 1; number <= kPods; ++number) {
    FL_LET(world->pods_.emplace_back(), world->path_->make_pod(number));
  }
  FL_TRY(world->path_->pods().erase(world->pods_.back().endpoint.ifindex));
  FL_LET(const std::uint32_t jiffies, world->path_->sweep());
  FL_LET(world->stamps_, Stamps::open(world->path_->root(), jiffies));
  FL_TRY(world->reset());
  return world;
}

Result<> World::reset() {
  for (const std::string& service : services_) FL_TRY(balancer_->remove(service));
  services_.clear();
  FL_TRY(stamps_->end_all());
  model_ = std::make_unique<Model>();
  for (std::size_t i = 0; i + 1 < pods_.size(); ++i) FL_TRY(bind(i, 0, 0));
  FL_TRY(set_policy({}));
  lost_track_ = held_up_ = false;
  expected_.clear();
  FL_LET(counted_, counters());
  return {};
}

// As the network domain does for a changed row: each time under generations of its own.
Result<> World::bind(std::size_t pod, datapath::RuleSetId ingress, datapath::RuleSetId egress) {
  datapath::PodEndpoint endpoint = pods_[pod].endpoint;
  FL_LET(const std::uint32_t generation, path_->pods().new_generation());
  if (ingress != 0) endpoint.ingress = {ingress, generation};
  if (egress != 0) endpoint.egress = {egress, generation};
  FL_TRY(path_->pods().upsert(endpoint));
  model_->upsert(endpoint);
  return {};
}

Result<> World::set_policy(const datapath::PolicyContents& contents) {
  FL_LET(const datapath::PolicyContents before, policy_->read());
  for (const auto& [number, set] : before.rules) FL_TRY(policy_->erase_rules(number));
  for (const auto& [address, identity] : before.addresses) FL_TRY(policy_->erase_identity(address));
  for (const auto& [cidr, identity] : before.cidrs) FL_TRY(policy_->erase_identity(cidr));
  for (const auto& [address, identity] : contents.addresses) FL_TRY(policy_->set_identity(address, identity));
  for (const auto& [cidr, identity] : contents.cidrs) FL_TRY(policy_->set_identity(cidr, identity));
  for (const auto& [number, set] : contents.rules) {
    for (const auto& [peer, ranges] : set.peers) FL_TRY(policy_->allow(number, peer, ranges));
    FL_TRY(policy_->put_rules(number, set.any_peer));
  }
  model_->set_policy(contents);
  return {};
}

Result<std::map<std::string, std::uint64_t>> World::counters() const {
  FL_LET(const auto counters, path_->pods().counters());
  std::map<std::string, std::uint64_t> out;
  for (const auto& counter : counters) out[counter.reason] = counter.packets;
  return out;
}

std::string World::compare_counters() const {
  if (held_up_) return {};
  const auto now = counters();
  if (!now) return now.error().message();
  std::string differences;
  for (const auto& [reason, packets] : *now) {
    const std::uint64_t counted = packets - counted_.at(reason);
    const auto at = expected_.find(reason);
    const std::uint64_t expected = at == expected_.end() ? 0 : at->second;
    if (counted != expected) differences += fmt::format("counted {}: {} instead of {}\n", reason, counted, expected);
  }
  return differences;
}

Result<> World::pass(Time time) {
  model_->pass(time);
  Time more{0};
  for (int tries = 0; tries < 1000 && !model_->is_clear(kMargin); ++tries) {
    model_->pass(std::chrono::seconds(1));
    more += std::chrono::seconds(1);
  }
  return stamps_->age(time + more);
}

std::string World::take(const Step& step) {
  const auto begin = std::chrono::steady_clock::now();
  const bool late = stamps_->since_aged() > kMargin / 2;
  std::string difference = late ? "" : take_in_time(step);
  if (!late && std::chrono::steady_clock::now() - begin < kMargin / 4) return difference;
  lost_track_ = held_up_ = true;
  return {};
}

std::string World::take_in_time(const Step& step) {
  if (step.kind == Step::Kind::kFromPod || step.kind == Step::Kind::kHostToPod) {
    // What really passed is taken back before it matters.
    if (stamps_->since_aged() > kMargin / 4) {
      if (auto aged = stamps_->age(Time(0)); !aged) return aged.error().message();
    }
    return take_packet(step);
  }
  return take_change(step);
}

std::string World::take_change(const Step& step) {
  Result<> done;
  if (step.kind == Step::Kind::kTime) {
    done = pass(step.time);
  } else if (step.kind == Step::Kind::kPolicy) {
    done = set_policy(step.policy);
  } else if (step.kind == Step::Kind::kBind) {
    done = bind(step.pod, step.ingress_rules, step.egress_rules);
  } else if (step.kind == Step::Kind::kApply) {
    done = balancer_->apply(step.service, step.entry);
    model_->apply(step.service, step.entry);
    services_.insert(step.service);
  } else {
    done = balancer_->remove(step.service);
    model_->remove(step.service);
    services_.erase(step.service);
  }
  // UDP connections whose backend is gone end by the sweep: now, for both.
  if (done && step.kind != Step::Kind::kTime) {
    model_->sweep();
    if (auto swept = path_->sweep(); !swept) done = std::unexpected(swept.error());
  }
  return done ? "" : done.error().message();
}

// Of several drops that look the same, the one whose reason was counted.
const Future& World::counted_one(const std::vector<const Future*>& futures) const {
  const auto now = counters();
  const auto counted = [&](const Future* each) {
    const std::string& reason = each->outcome.reason;
    const auto at = expected_.find(reason);
    return now && now->at(reason) - counted_.at(reason) > (at == expected_.end() ? 0 : at->second);
  };
  const auto came = std::ranges::find_if(futures, counted);
  return came == futures.end() ? *futures.front() : **came;
}

std::string World::take_packet(const Step& step) {
  const testkit::Pod& pod = pods_[step.pod];
  const bool from_pod = step.kind == Step::Kind::kFromPod;
  const testkit::Place place{.ifindex = pod.endpoint.ifindex, .from = from_pod || step.from_node ? 0 : kOtherDevice};
  const auto actual = path_->run(from_pod ? "from_pod" : "host_to_pod", place, step.frame);
  if (!actual) return actual.error().message();
  const auto futures = from_pod ? model_->from_pod(pod.endpoint.ifindex, step.frame)
                                : model_->host_to_pod(pod.endpoint.ifindex, step.frame, step.from_node);
  std::vector<const Future*> fitting;
  for (const Future& each : futures) {
    if (same(each.outcome, *actual)) fitting.push_back(&each);
  }
  if (!fitting.empty()) {
    lost_track_ = fitting.size() > 1;
    const Future& came = lost_track_ ? counted_one(fitting) : *fitting.front();
    outcome_ = came.outcome;
    ++expected_[outcome_.reason];
    came.commit();
    return {};
  }
  std::string text =
      fmt::format("the program: {}\n  {}\n", outcome_words(actual->action, actual->packet), hex(actual->packet));
  for (const Future& each : futures) {
    text += fmt::format("the model:   {} ({})\n  {}\n", outcome_words(each.outcome.action, each.outcome.packet),
                        each.outcome.reason, hex(each.outcome.packet));
  }
  return text + compare_counters();
}

}  // namespace fairlead::model
