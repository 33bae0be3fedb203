// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/pods.h"

#include <sys/sysinfo.h>

#include <algorithm>
#include <filesystem>

#include "agent/base/log.h"
#include "agent/pods/cri_config.h"

namespace fairlead::pods {
namespace {

std::string pods_dir(const PodsConfig& config) {
  // Absolute: the runtime mounts from there, wherever it was started.
  return std::filesystem::absolute(config.state_dir) / "pods";
}

NodeFacts node_facts(const PodsConfig& config) {
  NodeFacts facts{
      .owner = fmt::format("{}.{:08x}", config.node_name, std::hash<std::string>()(pods_dir(config)) & 0xffffffff),
      .log_root = config.log_root,
      .cgroup_prefix = config.cgroup_prefix,
      .pods_dir = pods_dir(config),
      .dns = config.dns};
  struct sysinfo memory{};
  if (sysinfo(&memory) == 0) facts.memory_bytes = static_cast<std::int64_t>(memory.totalram) * memory.mem_unit;
  return facts;
}

// Whose logs "namespace_name_uid" are; nobody's by name where there are none.
ListedPod pod_of_logs(const std::string& log_root, const std::string& uid) {
  ListedPod pod;
  std::error_code error;
  for (std::filesystem::directory_iterator at(log_root, error), end; !error && at != end; at.increment(error)) {
    const std::string folder = at->path().filename();
    if (!folder.ends_with("_" + uid)) continue;
    const std::size_t name = folder.find('_') + 1;
    pod.ns = folder.substr(0, name - 1);
    pod.name = folder.substr(name, folder.size() - uid.size() - 1 - name);
  }
  return pod;
}

}  // namespace

Pods::Pods(Loop& loop, const Clock& clock, Deps deps)
    : loop_(loop),
      clock_(clock),
      deps_(std::move(deps)),
      config_use_(deps_.config_wants),
      event_teller_(clock, deps_.events),
      volumes_(
          loop, clock, pool_, pods_dir(deps_.config),
          [this](ConfigKind kind, const std::string& key) { return find_config(kind, key); }, deps_.tokens,
          deps_.config.allocatable),
      cgroups_(deps_.config.cgroup_roots),
      node_(node_facts(deps_.config)),
      reader_(loop, deps_.runtime, node_.owner),
      prober_(loop, clock, deps_.runtime, deps_.health, deps_.registry),
      readiness_(deps_.config.state_dir + "/readiness.json", clock.wall()),
      images_(
          loop, clock, deps_.runtime,
          [this](ConfigKind kind, const std::string& key) { return find_config(kind, key); }, event_teller_),
      host_ports_(loop),
      worker_context_{.loop = loop,
                      .clock = clock,
                      .runtime = deps_.runtime,
                      .volumes = volumes_,
                      .files = files_,
                      .cgroups = cgroups_,
                      .node = node_,
                      .images = images_,
                      .events = event_teller_,
                      .node_name = deps_.config.node_name,
                      .node_ips = deps_.config.node_ips,
                      .allocatable = deps_.config.allocatable,
                      .config = [this](ConfigKind kind, const std::string& key) { return find_config(kind, key); },
                      .services = [this](const k8s::Pod& pod) { return services_of(pod); }},
      keeper_context_{.worker = worker_context_,
                      .reader = reader_,
                      .prober = prober_,
                      .readiness = readiness_,
                      .host_ports = host_ports_,
                      .local_pods = deps_.local_pods,
                      .statuses = deps_.statuses,
                      .runtime_name = runtime_name_,
                      .drain_delay = deps_.config.drain_delay,
                      .drain_patience = deps_.config.drain_patience,
                      .drain_timeouts = metrics::counter(deps_.registry, "fairlead_pod_drain_timeouts_total",
                                                         "Pods that were ended before the Service maps said so."),
                      .start_seconds = metrics::seconds_histogram(deps_.registry, "kubelet_pod_start_duration_seconds",
                                                                  "From a pod's arrival at the agent to Ready.")},
      running_pods_(metrics::gauge(deps_.registry, "kubelet_running_pods", "Pods with a running container.")),
      running_containers_(metrics::gauge(deps_.registry, "kubelet_running_containers", "Containers that run.")),
      list_failures_(metrics::counter(deps_.registry, "fairlead_runtime_list_failures_total",
                                      "Lists of all pods that the runtime did not answer.")) {}

void Pods::start() {
  deps_.config_maps.attach(loop_, [this](auto delta) { config_changed(config_maps_, std::move(delta)); });
  deps_.secrets.attach(loop_, [this](auto delta) { config_changed(secrets_, std::move(delta)); });
  deps_.services.attach(loop_, [this](auto delta) { services_changed(std::move(delta)); });
  deps_.applied.attach(loop_, [this](const std::vector<model::Applied>& news) {
    for (const model::Applied& applied : news) {
      for (auto& [uid, keeper] : keepers_) keeper->applied(applied.revision);
    }
  });
  deps_.requests.attach(loop_,
                        [this](const Inspect& request, Reply<Json> reply) { answer(request, std::move(reply)); });
  ask_version();
}

// Pods are kept from when the runtime has said its name: no status goes out without it.
void Pods::ask_version() {
  constexpr Duration kDeadline = std::chrono::seconds(10);
  deps_.runtime.call(loop_, cri::api::VersionRequest(), kDeadline, [this](auto version) {
    if (version) {
      runtime_name_ = version->runtime_name();
      return follow_pods();
    }
    if (trouble_.empty()) log::warn("pods", "the runtime does not answer", {{"error", version.error()}});
    trouble_ = version.error().message();
    version_timer_ = loop_.after(deps_.config.relist, [this] { ask_version(); });
  });
}

void Pods::follow_pods() {
  deps_.pods.attach(loop_, [this](auto delta) { pods_changed(std::move(delta)); });
  deps_.runtime.follow_events(
      loop_,
      [this](const cri::api::ContainerEventResponse& event) {
        events_ = true;
        const api::PodSandboxStatus& sandbox = event.pod_sandbox_status();
        const auto at = keepers_.find(sandbox.metadata().uid());
        const auto owner = sandbox.labels().find(kOwnerLabel);
        const bool ours = owner != sandbox.labels().end() && owner->second == node_.owner;
        if (ours && at != keepers_.end()) at->second->told(pod_view(event));
      },
      [this](cri::Runtime::StreamEnd end, const Error& error) {
        events_ = false;
        if (end == cri::Runtime::StreamEnd::kUnsupported) {
          log::info("pods", "the runtime tells no events: pods are listed each second");
        } else {
          log::warn("pods", "runtime events broke off", {{"error", error}});
        }
        relist();
      });
  relist();
}

void Pods::pods_changed(state::Delta<model::Pod> delta) {
  for (const auto& change : delta.changes) {
    if (change.after != nullptr) {
      want(change.after);
    } else {
      unwant(change.key);
    }
  }
  pods_complete_ = delta.complete;
  complete_when_adopted();
}

// A static pod is one that the API server did not send; it is told of those, to show them.
void Pods::tell_static(const model::Pod& row, bool gone) const {
  if (!deps_.api_source.empty() && row.source == deps_.api_source) return;
  deps_.static_pods.send({.id = row.id, .object = gone ? nullptr : row.object});
}

void Pods::want(const std::shared_ptr<const model::Pod>& row) {
  if (rows_[row->id.uid]) return;
  if (const auto at = keepers_.find(row->id.uid); at != keepers_.end() && at->second->follows(*row)) {
    config_use_.set(row->id.uid, configs_of(*row->object));
    tell_static(*row, false);
    return at->second->desire(*row);
  }
  // A pod made anew under the same name, or wanted again while it ends, starts when its predecessor is gone.
  const bool taken =
      std::ranges::any_of(keepers_, [&](const auto& entry) { return entry.second->id().key() == row->id.key(); });
  if (taken) {
    successors_[row->id.uid] = row;
    return;
  }
  // What an earlier agent was ending is ended; what is wanted now is begun after it.
  if (!row->deletion_grace_s && files_.read(ending_mark(node_, row->id.uid))) {
    successors_[row->id.uid] = row;
    return end_orphan(row->id.uid, {.view = {}, .ns = row->id.ns, .name = row->id.name});
  }
  keep(*row);
}

void Pods::unwant(const std::string& uid) {
  rows_.erase(uid);
  successors_.erase(uid);
  if (const auto at = keepers_.find(uid); at != keepers_.end()) at->second->end();
}

void Pods::keep(const model::Pod& row) {
  const std::string uid = row.id.uid;
  if (!adopted_) first_looks_.insert(uid);
  config_use_.set(uid, configs_of(*row.object));
  tell_static(row, false);
  keepers_[uid] = std::make_unique<Keeper>(keeper_context_, row, all_kept_,
                                           Keeper::Notices{[this, uid] { looked(uid); }, [this, uid] { gone(uid); }});
}

void Pods::looked(const std::string& uid) {
  first_looks_.erase(uid);
  count();
  complete_when_adopted();
}

void Pods::complete_when_adopted() {
  if (adopted_ || !pods_complete_ || !first_looks_.empty()) return;
  adopted_ = true;
  deps_.local_pods.set_complete();
  deps_.static_pods.send({});  // each that was there has been told
  log::info("pods", "every desired pod is known", {{"pods", keepers_.size()}});
  relist();  // and now what is not desired can be told
  end_remains();
}

void Pods::gone(const std::string& uid) {
  const auto at = keepers_.find(uid);
  if (at == keepers_.end()) return;
  const std::string name = at->second->id().key();
  tell_static({.id = at->second->id(), .object = nullptr, .source = at->second->source(), .deletion_grace_s = {}},
              true);
  if (at->second->in_runtime()) all_kept_ = false;
  event_teller_.end(at->second->id());
  keepers_.erase(at);
  config_use_.set(uid, {});
  count();
  first_looks_.erase(uid);
  if (const auto row = rows_.find(uid); row != rows_.end()) row->second = !successors_.contains(uid);
  const auto next =
      std::ranges::find_if(successors_, [&](const auto& entry) { return entry.second->id.key() == name; });
  if (next != successors_.end()) keep(*successors_.extract(next).mapped());
}

Result<std::shared_ptr<const model::ConfigData>> Pods::find_config(ConfigKind kind, const std::string& key) const {
  const ConfigRows& known = kind == ConfigKind::kSecret ? secrets_ : config_maps_;
  if (const auto at = known.rows.find(key); at != known.rows.end()) return at->second->absent ? nullptr : at->second;
  if (!deps_.config.configs_on_demand && known.complete) return nullptr;
  return fail(Code::kUnavailable, "{} {} has not been read yet", to_string(kind), key);
}

Result<Env> Pods::services_of(const k8s::Pod& pod) const {
  // A static pod waits for nothing of an API server: it may be what makes that one answer.
  const auto keeper = keepers_.find(pod.metadata().uid());
  const bool is_static =
      !deps_.api_source.empty() && keeper != keepers_.end() && keeper->second->source() != deps_.api_source;
  if (!services_complete_ && !is_static) {
    return fail(Code::kUnavailable, "services have not yet been read at least once, cannot construct envvars");
  }
  std::vector<std::shared_ptr<const model::Service>> all;
  for (const auto& [key, service] : services_) {
    if (service->id.ns == pod.metadata().namespace_() || key == "default/kubernetes") all.push_back(service);
  }
  return service_env(pod, all);
}

void Pods::services_changed(state::Delta<model::Service> delta) {
  for (auto& change : delta.changes) {
    if (change.after != nullptr) {
      services_[change.key] = std::move(change.after);
    } else {
      services_.erase(change.key);
    }
  }
  if (std::exchange(services_complete_, delta.complete) || !services_complete_) return;
  for (auto& [uid, keeper] : keepers_) keeper->retry_now();
}

void Pods::config_changed(ConfigRows& rows, state::Delta<model::ConfigData> delta) {
  std::set<std::string> namespaces;
  for (const auto& change : delta.changes) {
    if (change.after != nullptr) {
      rows.rows[change.key] = change.after;
    } else {
      rows.rows.erase(change.key);
    }
    namespaces.insert(change.key.substr(0, change.key.find('/')));
  }
  const bool completed = !std::exchange(rows.complete, delta.complete) && delta.complete;
  for (auto& [uid, keeper] : keepers_) {
    if ((!completed && !namespaces.contains(keeper->id().ns)) || keeper->ending()) continue;
    if (keeper->has_volumes()) volumes_.refresh(keeper->pod());
    keeper->retry_now();
  }
}

void Pods::schedule_relist() {
  relist_timer_ = loop_.after(events_ ? deps_.config.relist_with_events : deps_.config.relist, [this] { relist(); });
}

void Pods::relist() {
  relist_timer_.cancel();
  reader_.list([this](Result<std::map<std::string, ListedPod>> pods) {
    if (pods) {
      trouble_.clear();
      if (!std::exchange(listed_once_, true)) forget_vanished(*pods);
      listed(*pods);
    } else {
      if (trouble_.empty()) log::warn("pods", "the runtime does not list pods", {{"error", pods.error()}});
      list_failures_.Increment();
      trouble_ = pods.error().message();
    }
    schedule_relist();
  });
}

void Pods::listed(const std::map<std::string, ListedPod>& pods) {
  for (auto& [uid, keeper] : keepers_) {
    const auto at = pods.find(uid);
    keeper->listed(at == pods.end() ? nullptr : &at->second.view);
  }
  if (adopted_) {
    end_orphans(pods);
    all_kept_ = true;
  }
  count();
}

// What is remembered of containers that went while no agent ran.
void Pods::forget_vanished(const std::map<std::string, ListedPod>& pods) {
  std::set<std::string> ids;
  for (const auto& [uid, pod] : pods) {
    for (const ContainerView& container : pod.view.containers) ids.insert(container.id);
  }
  readiness_.keep_only(ids);
}

void Pods::end_orphans(const std::map<std::string, ListedPod>& pods) {
  for (const auto& [uid, pod] : pods) {
    if (!keepers_.contains(uid)) end_orphan(uid, pod);
  }
}

void Pods::end_orphan(const std::string& uid, const ListedPod& pod) {
  keepers_[uid] =
      std::make_unique<Keeper>(keeper_context_, uid, pod, Keeper::Notices{[] {}, [this, uid] { gone(uid); }});
}

void Pods::end_remains() {
  volumes_.on_disk([this](Result<std::vector<std::string>> uids) {
    if (!uids) return log::warn("pods", "what earlier pods left is not looked for", {{"error", uids.error()}});
    // Of what the runtime has, it tells more than the disk.
    reader_.list([this, uids = std::move(*uids)](Result<std::map<std::string, ListedPod>> pods) {
      if (!pods) return log::warn("pods", "what earlier pods left stays", {{"error", pods.error()}});
      for (const std::string& uid : uids) {
        if (!successors_.contains(uid)) pods->try_emplace(uid, pod_of_logs(node_.log_root, uid));
      }
      end_orphans(*pods);
    });
  });
}

void Pods::count() {
  unsigned pods = 0;
  unsigned containers = 0;
  for (const auto& [uid, keeper] : keepers_) {
    const unsigned running = keeper->running_containers();
    pods += running > 0 ? 1 : 0;
    containers += running;
  }
  running_pods_.Set(pods);
  running_containers_.Set(containers);
}

void Pods::answer(const Inspect& request, Reply<Json> reply) {
  if (request.op == "pods.sync") return reply(sync_state());
  if (request.op == "pod.get") return reply(get(request.args));
  if (request.op != "pod.list") return reply(fail(Code::kNotFound, "no operation \"{}\"", request.op));
  std::vector<const Keeper*> sorted;
  for (const auto& [uid, keeper] : keepers_) sorted.push_back(keeper.get());
  std::ranges::sort(sorted, {}, [](const Keeper* keeper) { return std::pair(keeper->id().key(), keeper->id().uid); });
  const std::string ns = request.args.value("namespace", std::string());
  Json rows = Json::array();
  for (const Keeper* keeper : sorted) {
    if (ns.empty() || keeper->id().ns == ns) rows.push_back(keeper->summary());
  }
  reply(std::move(rows));
}

Result<Json> Pods::get(const Json& args) const {
  const std::string key = args.value("namespace", std::string("default")) + "/" + args.value("name", std::string());
  for (const auto& [uid, keeper] : keepers_) {
    if (keeper->id().key() == key) return keeper->details();
  }
  return fail(Code::kNotFound, "no pod {} on this node", key);
}

Json Pods::sync_state() const {
  Json missing = Json::array();
  Json failing = Json::object();
  if (runtime_name_.empty()) missing.push_back("the runtime's name");
  if (!pods_complete_) missing.push_back("Pod");
  if (!listed_once_) missing.push_back("the runtime's pods");
  if (!first_looks_.empty()) missing.push_back(fmt::format("a first look at {} pods", first_looks_.size()));
  if (!trouble_.empty()) failing["runtime"] = trouble_;
  const bool synced = adopted_ && listed_once_ && trouble_.empty();
  return {{"synced", synced},        {"adopted", listed_once_ && first_looks_.empty()},
          {"missing", missing},      {"failing", failing},
          {"pods", keepers_.size()}, {"events", events_}};
}

}  // namespace fairlead::pods
