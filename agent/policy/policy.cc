// SPDX-License-Identifier: Apache-2.0
#include "agent/policy/policy.h"

#include <k8s/pod.pb.h>

#include <algorithm>

#include "agent/base/log.h"
#include "agent/kube/project.h"
#include "agent/policy/inspect.h"

namespace fairlead::policy {
namespace {

constexpr auto kModule = "policy";
constexpr auto kRetry = std::chrono::seconds(1);

// Keys of the reconciler.
constexpr std::string_view kRules = "rules ";
constexpr std::string_view kAddress = "address ";
constexpr std::string_view kPod = "pod ";
constexpr auto kCidrs = "cidrs";

std::string key_of(std::string_view kind, const auto& what) {
  return fmt::format("{}{}", kind, what);
}

}  // namespace

PolicyMetrics::PolicyMetrics(metrics::Registry& registry)
    : sync_seconds(metrics::seconds_histogram(registry, "fairlead_policy_sync_seconds",
                                              "Time that one pass over changed policies and pods took.")),
      policies(metrics::gauge(registry, "fairlead_policy_policies", "NetworkPolicies known.")),
      isolated_pods(metrics::gauge(registry, "fairlead_policy_isolated_pods",
                                   "Pods of this node that are isolated in some direction.")),
      rule_sets(metrics::gauge(registry, "fairlead_policy_rule_sets", "Rule sets in the maps.")),
      identities(metrics::gauge(registry, "fairlead_policy_identities", "Identities of pods and CIDRs.")),
      failing(metrics::gauge(registry, "fairlead_policy_failing",
                             "Pods and addresses whose policy could not be put into the maps: the old one holds.")),
      failures(metrics::counter(registry, "fairlead_policy_sync_failures_total",
                                "Failed attempts to put a policy into the maps.")),
      repairs(metrics::counter(registry, "fairlead_policy_audit_repairs_total",
                               "Times that an audit found the maps different from what was written.")) {}

template <class Row>
void Policy::follow(state::TableReader<Row>& reader, const char* kind,
                    void (Policy::*take)(const state::Change<Row>&)) {
  incomplete_.insert(kind);
  reader.attach(loop_, [this, kind, take](const state::Delta<Row>& delta) {
    for (const auto& change : delta.changes) (this->*take)(change);
    if (delta.complete) incomplete_.erase(kind);
    if (reconciler_.started()) return mark_changes();
    start_when_complete();
  });
}

Policy::Policy(Loop& loop, const Clock& clock, Deps deps)
    : loop_(loop),
      clock_(clock),
      deps_(std::move(deps)),
      metrics_(deps_.registry),
      desired_(deps_.node),
      programmer_(deps_.maps, desired_),
      reconciler_(loop, kModule,
                  {.reconcile = [this](const std::string& key) { return reconcile(key); },
                   .passed = [this] { passed(); },
                   .audit = [this] { audit(); }},
                  {}, deps_.audit_period) {
  follow(deps_.policies, "NetworkPolicy", &Policy::policy_changed);
  follow(deps_.namespaces, "Namespace", &Policy::namespace_changed);
  follow(deps_.peers, "PeerPod", &Policy::peer_changed);
  follow(deps_.pods, "Pod", &Policy::pod_changed);
  follow(deps_.endpoints, "Endpoint", &Policy::endpoint_changed);
  deps_.inspect.attach(loop, [this](const Inspect& request, Reply<Json> reply) {
    if (request.op == "policy.sync") return reply(sync_state());
    reply(answer(request, {desired_, deps_.maps, told_, reconciler_.failing()}));
  });
}

void Policy::policy_changed(const state::Change<model::NetworkPolicy>& change) {
  desired_.set_policy(change.key, change.after);
  if (!change.after) return;
  for (const std::string& why : change.after->unread) {
    log::warn(kModule, "part of a NetworkPolicy cannot be read: it allows nothing",
              {{"policy", change.key}, {"why", why}});
  }
}

void Policy::namespace_changed(const state::Change<model::Namespace>& change) {
  desired_.set_namespace(change.key, change.after);
}

void Policy::peer_changed(const state::Change<model::PeerPod>& change) {
  desired_.set_peer(change.key, change.after);
}

void Policy::pod_changed(const state::Change<model::Pod>& change) {
  std::shared_ptr<const model::PeerPod> pod;
  if (change.after) pod = std::make_shared<const model::PeerPod>(kube::project_peer_pod(*change.after->object));
  desired_.set_own(change.key, std::move(pod));
}

void Policy::endpoint_changed(const state::Change<model::ServedNetns>& change) {
  desired_.set_endpoint(change.key, change.after);
}

void Policy::start_when_complete() {
  if (!incomplete_.empty()) return;
  auto contents = deps_.maps.read();
  if (!contents) {
    log::error(kModule, "cannot read the policy maps", {{"error", contents.error()}});
    read_ = std::unexpected(contents.error());
    retry_ = loop_.after(kRetry, [this] { start_when_complete(); });
    return;
  }
  read_ = {};
  desired_.start(*contents);
  programmer_.adopt(std::move(*contents));
  mark_changes();
  reconciler_.start();
}

// In the order in which they are to be in force.
void Policy::mark_changes() {
  const Desired::Changes changes = desired_.take_changes();
  for (const datapath::RuleSetId number : changes.rules) reconciler_.mark(key_of(kRules, number));
  if (changes.cidrs) reconciler_.mark(kCidrs);
  for (const IpAddress& address : changes.addresses) reconciler_.mark(key_of(kAddress, address));
  for (const std::string& uid : changes.pods) reconciler_.mark(key_of(kPod, uid));
  // Room that was missing may be there now.
  if (changes.rules.empty() && !changes.cidrs && changes.addresses.empty() && changes.pods.empty()) return;
  for (const auto& [key, error] : reconciler_.failing()) reconciler_.mark(key);
}

Result<> Policy::reconcile(const std::string& key) {
  if (!pass_began_) pass_began_ = clock_.now();
  const std::string_view text = key;
  if (text == kCidrs) return programmer_.sync_cidrs();
  if (text.starts_with(kAddress)) {
    FL_LET(const IpAddress address, IpAddress::parse(text.substr(kAddress.size())));
    return programmer_.sync_address(address);
  }
  if (text.starts_with(kPod)) return reconcile_pod(key.substr(kPod.size()));
  return programmer_.sync_rules(static_cast<datapath::RuleSetId>(std::stoul(key.substr(kRules.size()))));
}

Result<> Policy::reconcile_pod(const std::string& uid) {
  judge_again();  // while the pod is still known to be bound to what became stricter
  const OwnPod* pod = desired_.own_pod(uid);
  const auto before = told_.find(uid);
  if (pod == nullptr) {
    if (before == told_.end()) return {};
    programmer_.unbind(before->second.ingress_rules);
    programmer_.unbind(before->second.egress_rules);
    deps_.pod_policies.erase(uid);
    told_.erase(before);
    again_.erase(uid);
    return {};
  }
  model::PodPolicy now{pod->pod.id};
  for (const Direction direction : {Direction::kIngress, Direction::kEgress}) {
    const RuleSetEntry* rules = pod->rules[static_cast<std::size_t>(direction)];
    if (rules == nullptr) continue;
    if (auto published = programmer_.publish(rules->number); !published) {
      return fail_with(std::move(published).error(), direction == Direction::kIngress ? "ingress" : "egress");
    }
    (direction == Direction::kIngress ? now.ingress_rules : now.egress_rules) = rules->number;
  }
  if (before == told_.end()) {
    now.revision = 1;
    tell(now);
    return {};
  }
  const model::PodPolicy& old = before->second;
  const bool again = again_.erase(uid) != 0 || programmer_.is_stricter(old.ingress_rules, now.ingress_rules) ||
                     programmer_.is_stricter(old.egress_rules, now.egress_rules);
  now.revision = old.revision + (again ? 1 : 0);
  if (now != old) tell(now);
  return {};
}

void Policy::tell(const model::PodPolicy& row) {
  programmer_.bind(row.ingress_rules);
  programmer_.bind(row.egress_rules);
  if (const auto before = told_.find(row.pod.uid); before != told_.end()) {
    programmer_.unbind(before->second.ingress_rules);
    programmer_.unbind(before->second.egress_rules);
  }
  told_[row.pod.uid] = row;
  deps_.pod_policies.upsert(row.pod.uid, row);
}

// After the maps, the pods whose open connections may be denied by them now.
void Policy::judge_again() {
  const std::set<datapath::RuleSetId> stricter = programmer_.take_stricter();
  if (stricter.empty()) return;
  for (auto& [uid, row] : told_) {
    if (!stricter.contains(row.ingress_rules) && !stricter.contains(row.egress_rules)) continue;
    again_.insert(uid);
    reconciler_.mark(key_of(kPod, uid));
  }
}

void Policy::passed() {
  judge_again();
  if (pass_began_) metrics_.sync_seconds.Observe(std::chrono::duration<double>(clock_.now() - *pass_began_).count());
  pass_began_.reset();
  metrics_.policies.Set(static_cast<double>(desired_.policies().size()));
  metrics_.isolated_pods.Set(static_cast<double>(std::ranges::count_if(
      told_, [](const auto& entry) { return entry.second.ingress_rules != 0 || entry.second.egress_rules != 0; })));
  metrics_.rule_sets.Set(static_cast<double>(programmer_.there().rules.size()));
  metrics_.identities.Set(static_cast<double>(desired_.identities().size()));
  metrics_.failing.Set(static_cast<double>(reconciler_.failing().size()));
  metrics_.failures.Increment(static_cast<double>(reconciler_.failures() - failures_counted_));
  failures_counted_ = reconciler_.failures();
  if (reconciler_.synced()) deps_.pod_policies.set_complete();
  if (!sweep_) sweep_ = loop_.after(deps_.grace, [this] { sweep(); });
}

void Policy::sweep() {
  sweep_.cancel();
  const bool all_told =
      std::ranges::all_of(desired_.own_pods(), [&](const auto& entry) { return told_.contains(entry.first); });
  const auto more = programmer_.sweep(clock_.now(), deps_.grace, !all_told);
  if (!more) log::warn(kModule, "cannot erase rules that are used no more", {{"error", more.error()}});
  if (!more || *more) sweep_ = loop_.after(deps_.grace, [this] { sweep(); });
  mark_changes();
}

void Policy::audit() {
  auto contents = deps_.maps.read();
  if (!contents) {
    log::warn(kModule, "cannot read the policy maps", {{"error", contents.error()}});
    return;
  }
  const datapath::PolicyContents& known = programmer_.there();
  if (contents->addresses == known.addresses && contents->cidrs == known.cidrs && contents->rules == known.rules)
    return;
  metrics_.repairs.Increment();
  log::warn(kModule, "the policy maps are not what was written into them");
  for (const auto* both : {&std::as_const(contents->addresses), &known.addresses}) {
    for (const auto& [address, identity] : *both) reconciler_.mark(key_of(kAddress, address));
  }
  reconciler_.mark(kCidrs);
  for (const auto& [number, set] : desired_.rule_sets()) {
    const auto there = contents->rules.find(number);
    if (there == contents->rules.end()) continue;
    for (const datapath::RuleSet* each : {&there->second, &set->wanted}) {
      for (const auto& [peer, ports] : each->peers) set->changed.insert(peer);
    }
    reconciler_.mark(key_of(kRules, number));
  }
  programmer_.adopt(std::move(*contents));
  for (const auto& [uid, pod] : desired_.own_pods()) reconciler_.mark(key_of(kPod, uid));
}

std::string Policy::object_of(const std::string& key) const {
  if (!key.starts_with(kPod)) return key;
  const OwnPod* pod = desired_.own_pod(key.substr(kPod.size()));
  return pod == nullptr ? key : "Pod " + pod->pod.id.key();
}

Json Policy::sync_state() const {
  Json failing = Json::object();
  for (const auto& [key, error] : reconciler_.failing()) failing[object_of(key)] = error.message();
  if (!read_) failing["maps"] = read_.error().message();
  return {{"synced", reconciler_.synced()},
          {"missing", incomplete_},
          {"failing", failing},
          {"policies", desired_.policies().size()},
          {"isolated_pods", metrics_.isolated_pods.Value()},
          {"rule_sets", programmer_.there().rules.size()},
          {"identities", desired_.identities().size()},
          {"cidrs", programmer_.there().cidrs.size()}};
}

}  // namespace fairlead::policy
