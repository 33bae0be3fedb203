// SPDX-License-Identifier: Apache-2.0
#include "agent/services/services.h"

#include <spdlog/fmt/ranges.h>

#include <algorithm>

#include "agent/base/log.h"
#include "agent/services/host_ports.h"
#include "agent/services/inspect.h"

namespace fairlead::services {
namespace {

constexpr auto kModule = "services";

// Keys of the reconciler that are chores, not Services; a Service's key has a slash.
constexpr auto kRemoveUnclaimed = "unclaimed-entries";
constexpr auto kSaveAddresses = "cluster-ips-file";

// Between so many Services the loop looks after local pods and questions.
constexpr std::size_t kPassLimit = 64;

bool needs_addresses(const model::Service& service) {
  return !service.headless && service.type != model::ServiceType::kExternalName;
}

WallTime wall_time(std::int64_t ns) {
  return WallTime(std::chrono::duration_cast<WallTime::duration>(std::chrono::nanoseconds(ns)));
}

std::int64_t nanoseconds(WallTime time) {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(time.time_since_epoch()).count();
}

double seconds(Duration duration) {
  return std::chrono::duration<double>(duration).count();
}

}  // namespace

ServiceMetrics::ServiceMetrics(metrics::Registry& registry)
    : sync_seconds(metrics::seconds_histogram(registry, "kubeproxy_sync_proxy_rules_duration_seconds",
                                              "Time that one pass over changed Services took.")),
      last_sync(metrics::gauge(registry, "kubeproxy_sync_proxy_rules_last_timestamp_seconds",
                               "When the last pass ended, in Unix time.")),
      service_changes(
          metrics::counter(registry, "kubeproxy_sync_proxy_rules_service_changes_total", "Changes of Services seen.")),
      endpoint_changes(metrics::counter(registry, "kubeproxy_sync_proxy_rules_endpoint_changes_total",
                                        "Changes of EndpointSlices seen.")),
      services(metrics::gauge(registry, "fairlead_services", "Services known, declared or spoken of by slices.")),
      backends(metrics::gauge(registry, "fairlead_service_backends", "Backends in the maps, over all Service ports.")),
      failing(metrics::gauge(registry, "fairlead_service_failing", "Services that could not be put into the maps.")),
      failures(metrics::counter(registry, "fairlead_service_sync_failures_total",
                                "Failed attempts to put a Service into the maps.")),
      repairs(metrics::counter(registry, "fairlead_service_audit_repairs_total",
                               "Entries that an audit found different from what was applied.")) {}

Services::Services(Loop& loop, const Clock& clock, Deps deps)
    : loop_(loop),
      clock_(clock),
      deps_(std::move(deps)),
      metrics_(deps_.registry),
      index_(deps_.node),
      site_{.node = deps_.node, .zone = "", .balancing = deps_.balancing},
      reconciler_(loop, kModule,
                  {.reconcile = [this](const std::string& key) { return reconcile(key); },
                   .passed = [this] { passed(); },
                   .audit = [this] { audit(); }},
                  {}, deps_.audit_period) {
  reconciler_.limit_pass(kPassLimit);
  node_ips_ = deps_.node_ips;
  deps_.services.attach(loop, [this](state::Delta<model::Service> delta) { services_changed(delta); });
  deps_.slices.attach(loop, [this](state::Delta<model::EndpointSlice> delta) { slices_changed(delta); });
  deps_.pods.attach(loop, [this](state::Delta<model::LocalPod> delta) { pods_changed(delta); });
  deps_.nodes.attach(loop, [this](state::Delta<model::Node> delta) { nodes_changed(delta); });
  deps_.host_ports.attach(loop, [this](state::Delta<model::HostPort> delta) { host_ports_changed(delta); });
  deps_.inspect.attach(loop, [this](const Inspect& request, Reply<Json> reply) {
    if (request.op == "services.sync") return reply(sync_state());
    reply(answer(request, {index_, deps_.balancer, site_, reconciler_.failing()}));
  });
}

void Services::services_changed(const state::Delta<model::Service>& delta) {
  metrics_.service_changes.Increment(static_cast<double>(delta.changes.size()));
  // Those that are gone come first: another may want an address of theirs.
  auto changes = delta.changes;
  std::ranges::stable_partition(changes, [](const auto& change) { return !change.after; });
  std::vector<std::shared_ptr<const model::Service>> declared;
  for (const auto& change : changes) {
    if (change.after) declared.push_back(change.after);
    if (deps_.addresses && (!change.after || !needs_addresses(*change.after))) deps_.addresses->release(change.key);
    if (index_.set_service(change.key, change.after)) mark(change.key);
  }
  if (deps_.addresses && delta.complete) {
    if (!services_complete_) {
      std::set<std::string> keys;
      declared.clear();
      for (const auto& [key, state] : index_.all()) {
        if (!state.declared || !needs_addresses(*state.declared)) continue;
        keys.insert(key);
        declared.push_back(state.declared);
      }
      deps_.addresses->retain(keys);
    }
    // Declared addresses are taken before any Service is given one; who is refused here is told when its turn comes.
    for (const auto& service : declared) {
      if (needs_addresses(*service) && !service->cluster_ips.empty()) (void)deps_.addresses->assign(*service);
    }
    if (deps_.addresses->changed()) mark(kSaveAddresses);
    // What was refused for an address may have it now.
    for (const auto& [key, error] : reconciler_.failing()) mark(key);
  }
  services_complete_ = delta.complete;
  start_when_complete();
}

void Services::slices_changed(const state::Delta<model::EndpointSlice>& delta) {
  metrics_.endpoint_changes.Increment(static_cast<double>(delta.changes.size()));
  for (const auto& change : delta.changes) {
    for (const std::string& key : index_.set_slice(change.key, change.before, change.after)) mark(key);
  }
  slices_complete_ = delta.complete;
  start_when_complete();
}

void Services::pods_changed(const state::Delta<model::LocalPod>& delta) {
  std::set<std::string> touched;
  for (const auto& change : delta.changes) {
    index_.set_pod(change.key, change.before, change.after);
    touched.merge(index_.services_of(change.key));
  }
  pods_revision_ = delta.revision;
  pods_complete_ = delta.complete;
  if (!reconciler_.started()) return start_when_complete();
  if (touched.empty()) return publish_applied();
  reconciler_.run_now(touched);
}

// Another zone prefers other endpoints.
void Services::nodes_changed(const state::Delta<model::Node>& delta) {
  for (const auto& change : delta.changes) {
    if (!change.after || change.key != site_.node) continue;
    std::vector<IpAddress> addresses = deps_.node_ips;
    addresses.insert(addresses.end(), change.after->addresses.begin(), change.after->addresses.end());
    if (std::exchange(node_ips_, addresses) != addresses) {
      for (const auto& [key, state] : host_ports_) mark(key);
    }
    const std::string now = model::zone_of(change.after->labels);
    if (std::exchange(site_.zone, now) == now) continue;
    for (const auto& [key, state] : index_.all()) mark(key);
  }
  nodes_complete_ = delta.complete;
  start_when_complete();
}

void Services::host_ports_changed(const state::Delta<model::HostPort>& delta) {
  for (const auto& change : delta.changes) {
    const std::string key = kHostPortPrefix + change.key;
    host_ports_[key].row = change.after;
    mark(key);
  }
  const bool known = delta.complete && !std::exchange(host_ports_complete_, delta.complete);
  if (known && reconciler_.started()) mark(kRemoveUnclaimed);  // last in the queue
  start_when_complete();
}

void Services::mark(const std::string& key) {
  if (pending_since_ == 0) pending_since_ = nanoseconds(clock_.wall());
  synced_ = false;
  reconciler_.mark(key);
}

void Services::start_when_complete() {
  if (!services_complete_ || !slices_complete_) return;
  if (!reconciler_.started() && pods_complete_ && nodes_complete_) start();
  if (reconciler_.started() && host_ports_complete_) return patience_.cancel();
  if (patience_) return;
  patience_ = loop_.after(deps_.pods_patience, [this] {
    log::warn(kModule, "going on without all lists", {{"missing", fmt::format("{}", fmt::join(missing(), ", "))}});
    if (!host_ports_complete_) mark(kRemoveUnclaimed);
    if (!reconciler_.started()) start();
  });
}

void Services::start() {
  if (host_ports_complete_) mark(kRemoveUnclaimed);  // last in the queue
  reconciler_.start();
  reconciler_.run_now(index_.services_with_local_pods());
}

Result<> Services::reconcile(const std::string& key) {
  if (!pass_began_) pass_began_ = clock_.now();
  if (key == kRemoveUnclaimed) return deps_.balancer.remove_unclaimed();
  if (key == kSaveAddresses) return deps_.addresses->save();
  if (key.starts_with(kHostPortPrefix)) return reconcile_host_port(key);
  ServiceState* state = index_.find(key);
  if (state == nullptr) return {};
  Result<> addressed;
  if (state->declared) {
    addressed = give_addresses(*state);
  } else {
    state->effective = nullptr;
  }
  // Without addresses for what is declared, what was last in force goes on and follows its endpoints.
  ServicePlan plan;
  if (state->effective) plan = compute_service_plan(*state->effective, state->slice_list(), index_.pods(), site_);
  warn_unread(*state);
  Result<> programmed = program(*state, plan);
  index_.prune(key);
  return addressed ? programmed : addressed;
}

Result<> Services::give_addresses(ServiceState& state) {
  if (!deps_.addresses || !needs_addresses(*state.declared)) {
    state.effective = state.declared;
    return {};
  }
  FL_LET(auto addresses, deps_.addresses->assign(*state.declared));
  if (deps_.addresses->changed()) mark(kSaveAddresses);
  model::Service effective = *state.declared;
  effective.cluster_ips = std::move(addresses);
  state.effective = std::make_shared<const model::Service>(std::move(effective));
  return {};
}

Result<> Services::program(ServiceState& state, const ServicePlan& plan) {
  return program(state.programmed, plan.entries, state.backends);
}

Result<> Services::program(std::set<std::string>& programmed, const Entries& entries, std::size_t& backends) {
  Result<> outcome;  // the first failure; the other ports are served all the same
  for (auto name = programmed.begin(); name != programmed.end();) {
    if (entries.contains(*name)) {
      ++name;
    } else if (auto removed = deps_.balancer.remove(*name)) {
      name = programmed.erase(name);
    } else {
      if (outcome) outcome = fail_with(std::move(removed).error(), *name);
      ++name;
    }
  }
  std::size_t in_force = 0;
  for (const auto& [name, entry] : entries) {
    programmed.insert(name);  // even if it fails: an earlier agent's entry may be in the maps under this name
    if (auto applied = deps_.balancer.apply(name, entry)) {
      in_force += entry.backends.size();
    } else if (outcome) {
      outcome = fail_with(std::move(applied).error(), name);
    }
  }
  backends_ += in_force - backends;
  backends = in_force;
  return outcome;
}

Result<> Services::reconcile_host_port(const std::string& key) {
  const auto at = host_ports_.find(key);
  if (at == host_ports_.end()) return {};
  Entries entries;
  if (at->second.row) entries = compute_host_port(key, *at->second.row, node_ips_);
  auto programmed = program(at->second.programmed, entries, at->second.backends);
  if (programmed && !at->second.row) host_ports_.erase(at);
  return programmed;
}

void Services::warn_unread(ServiceState& state) const {
  const std::vector<std::string> unread = state.declared ? state.declared->unread : std::vector<std::string>();
  if (std::exchange(state.unread, unread) == unread) return;
  for (const std::string& why : unread) {
    log::warn(kModule, "a part of a Service is without effect", {{"service", state.declared->id.key()}, {"why", why}});
  }
}

void Services::passed() {
  const WallTime now = clock_.wall();
  if (pass_began_) metrics_.sync_seconds.Observe(seconds(clock_.now() - *pass_began_));
  pass_began_.reset();
  metrics_.last_sync.Set(std::chrono::duration<double>(now.time_since_epoch()).count());
  metrics_.services.Set(static_cast<double>(index_.all().size()));
  metrics_.backends.Set(static_cast<double>(backends_));
  metrics_.failures.Increment(static_cast<double>(reconciler_.failures() - failures_counted_));
  failures_counted_ = reconciler_.failures();
  last_updated_ = nanoseconds(now);
  synced_ = reconciler_.synced();
  if (synced_) {
    pending_since_ = 0;
  } else if (pending_since_ == 0) {
    pending_since_ = nanoseconds(now);
  }
  publish_applied();
}

// Every change up to pods_revision_ was tried: pods_changed() carries out what it touches before it returns.
void Services::publish_applied() {
  model::Applied applied{.consumer = kModule, .revision = pods_revision_, .failed = {}};
  const auto failing = reconciler_.failing();
  metrics_.failing.Set(static_cast<double>(failing.size()));
  for (const auto& [key, error] : failing) {
    for (const std::string& uid : index_.local_pods_of(key)) applied.failed.emplace(uid, error.message());
  }
  deps_.applied.send(std::move(applied));
}

void Services::audit() {
  const auto differing = deps_.balancer.audit();
  if (!differing) {
    log::warn(kModule, "audit failed", {{"error", differing.error()}});
    return;
  }
  for (const std::string& name : *differing) {
    metrics_.repairs.Increment();
    log::warn(kModule, "entry in the maps differs from what was applied", {{"entry", name}});
    mark(name.starts_with(kHostPortPrefix) ? host_port_key(name) : name.substr(0, name.find(':')));
  }
}

std::vector<std::string> Services::missing() const {
  std::vector<std::string> kinds;
  if (!services_complete_) kinds.emplace_back("Service");
  if (!slices_complete_) kinds.emplace_back("EndpointSlice");
  if (!pods_complete_ && !reconciler_.started()) kinds.emplace_back("LocalPod");
  if (!nodes_complete_ && !reconciler_.started()) kinds.emplace_back("Node");
  if (!host_ports_complete_) kinds.emplace_back("HostPort");
  return kinds;
}

Json Services::sync_state() const {
  Json failing = Json::object();
  for (const auto& [key, error] : reconciler_.failing()) failing[key] = error.message();
  Json maps = Json::array();
  for (const auto& usage : deps_.balancer.usage()) {
    maps.push_back({{"map", usage.map}, {"used", usage.used}, {"capacity", usage.capacity}});
  }
  return {{"synced", reconciler_.synced()},  {"missing", missing()},  {"failing", std::move(failing)},
          {"services", index_.all().size()}, {"backends", backends_}, {"last_updated", last_updated_ / 1'000'000'000},
          {"maps", std::move(maps)}};
}

Services::Health Services::health() const {
  Health health{.synced = synced_, .last_updated = wall_time(last_updated_), .pending_since = std::nullopt};
  if (const std::int64_t since = pending_since_; since != 0) health.pending_since = wall_time(since);
  return health;
}

}  // namespace fairlead::services
