// SPDX-License-Identifier: Apache-2.0
#include "agent/network/network.h"

#include <unistd.h>

#include "agent/base/cni_spool.h"
#include "agent/base/log.h"
#include "agent/netlink/netns.h"

namespace fairlead::network {
namespace {

constexpr const char* kModule = "network";
constexpr Duration kCountPeriod = std::chrono::seconds(10);
constexpr Duration kSpoolPeriod = std::chrono::seconds(5);

}  // namespace

Network::Network(Loop& loop, const Clock& clock, Deps deps)
    : loop_(loop),
      clock_(clock),
      config_(std::move(deps.config)),
      programs_(deps.programs),
      sockets_(deps.sockets),
      namespaces_(std::move(deps.namespaces)),
      host_ports_(std::move(deps.host_ports)),
      requests_(std::move(deps.requests)),
      registry_(deps.registry),
      journal_(config_.state_dir),
      ipam_(config_.pod_cidrs, config_.address_rest),
      boot_(boot_id()),
      node_(std::move(deps.node)),
      mtu_(std::move(deps.mtu)) {
  if (deps.services) node_ports_.emplace(std::move(*deps.services));
  if (deps.pods) {
    gate_.emplace(loop_, std::move(*deps.pods), config_.pod_patience, "the API server has not told of it");
  }
  if (deps.policies) {
    policies_.emplace(loop_, std::move(*deps.policies), programs_, config_.pod_patience,
                      [this](const model::PodPolicy& row) { policy_changed(row); });
  }
}

Result<> Network::start() {
  FL_LET(netlink::Socket socket, netlink::Socket::open());
  host_ = std::make_unique<netlink::Socket>(std::move(socket));
  FL_LET(reaper_, DeviceReaper::start());
  FL_LET(connector_, Connector::start(programs_));
  FL_LET(own_cookie_, netlink::own_netns_cookie());
  // Before the look at what there is: nothing is missed in between.
  FL_LET(link_watch_, netlink::LinkWatch::start(loop_, {.gone = [this](std::uint32_t ifindex) { lose_device(ifindex); },
                                                        .missed = [this] { lose_missing_devices(); }}));
  FL_TRY(adopt());
  count_addresses();
  if (node_) node_->attach(loop_, [this](const state::Delta<model::Node>& delta) { node_changed(delta); });
  if (mtu_) {
    mtu_->attach(loop_, [this](const std::vector<model::PodMtu>& told) { config_.mtu = told.back().bytes; });
  }
  if (node_ports_) node_ports_->start(loop_);
  if (gate_) gate_->start();
  if (policies_) policies_->start();
  // Not now, but once the loop runs: our socket is served by then, so that no DEL falls in between.
  loop_.post([this] { drain_spool(); });
  spool_timer_ = loop_.every(kSpoolPeriod, [this] { drain_spool(); });
  count_timer_ = loop_.every(kCountPeriod, [this] { count_packets(); });
  requests_.attach(loop_, [this](const Inspect& request, Reply<Json> reply) { answer(request, std::move(reply)); });
  return {};
}

void Network::answer(const Inspect& request, Reply<Json> reply) {
  const TimePoint begin = clock_.now();
  if (request.op.starts_with("cni.")) drain_spool();
  const auto attachment = parse_attachment(request.args, request.op == "cni.add");
  const std::string key = attachment ? attachment->key() : "";
  Done done = [this, op = request.op, begin, reply = std::move(reply)](Result<Json> result) mutable {
    if (op.starts_with("cni.")) count(op, begin, result);
    reply(std::move(result));
  };
  if (request.op == "cni.del") end_waiting(key);
  if (request.op != "cni.add" || !attachment) return carry_out(request, key, {}, std::move(done));
  auto ended = std::make_shared<bool>(false);
  waiting_.emplace(key, ended);
  await_pod(*attachment,
            [this, request, key, ended = std::move(ended), done = std::move(done)](Result<> known) mutable {
              if (known && *ended) known = fail(Code::kCancelled, "{}: DEL came while ADD waited", key);
              ended.reset();
              std::erase_if(waiting_, [](const auto& entry) { return entry.second.expired(); });
              carry_out(request, key, std::move(known), std::move(done));
            });
}

void Network::await_pod(const Attachment& attachment, PodGate<model::Pod>::Go go) {
  const auto await_policy = [this, attachment](PodGate<model::Pod>::Go next) {
    policies_ ? policies_->pass(attachment, std::move(next)) : next({});
  };
  if (!gate_) return await_policy(std::move(go));
  gate_->pass(attachment, [await_policy, go = std::move(go)](Result<> known) mutable {
    known ? await_policy(std::move(go)) : go(std::move(known));
  });
}

Result<> Network::publish(const Endpoint& endpoint) {
  return policies_ ? policies_->put(endpoint.attachment, pod_endpoint(endpoint))
                   : programs_.upsert(pod_endpoint(endpoint));
}

Result<> Network::withdraw(std::uint32_t ifindex) {
  return policies_ ? policies_->erase(ifindex) : programs_.erase(ifindex);
}

void Network::policy_changed(const model::PodPolicy& row) {
  for (const auto& [key, endpoint] : endpoints_) {
    if (endpoint.ifindex == 0 || !is_for(endpoint.attachment, row.pod)) continue;
    if (auto published = publish(endpoint); !published) {
      log::error(kModule, "a pod keeps its old policy",
                 {{"pod", endpoint.attachment.pod()}, {"container", key}, {"error", published.error()}});
    }
  }
}

void Network::end_waiting(const std::string& key) {
  const auto [first, last] = waiting_.equal_range(key);
  for (auto at = first; at != last; ++at) {
    if (const auto ended = at->second.lock()) *ended = true;
  }
}

void Network::carry_out(const Inspect& request, const std::string& key, Result<> known, Done done) {
  if (const auto at = making_.find(key); at != making_.end()) {
    at->second.later.push_back([this, request, key, known = std::move(known), done = std::move(done)]() mutable {
      carry_out(request, key, std::move(known), std::move(done));
    });
  } else if (!known) {
    done(std::unexpected(std::move(known).error()));
  } else if (request.op == "cni.add") {
    add(request.args, std::move(done));
  } else {
    done(dispatch(request));
  }
}

void Network::count(const std::string& op, TimePoint begin, const Result<Json>& result) {
  metrics::seconds_histogram(registry_, "fairlead_cni_request_seconds", "Time taken by requests of the CNI plugin",
                             {{"op", op}})
      .Observe(std::chrono::duration<double>(clock_.now() - begin).count());
  if (!result) {
    metrics::counter(registry_, "fairlead_cni_failures_total", "Failed requests of the CNI plugin",
                     {{"op", op}, {"code", std::string(to_string(result.error().code))}})
        .Increment();
    log::warn(kModule, "a CNI request failed", {{"op", op}, {"error", result.error()}});
  }
  count_addresses();
}

Result<Json> Network::dispatch(const Inspect& request) {
  if (request.op == "cni.del") return del(request.args);
  if (request.op == "cni.check") return check(request.args);
  if (request.op == "cni.gc") return gc(request.args);
  if (request.op == "cni.status") return status();
  if (request.op == "endpoint.list") return list();
  if (request.op == "endpoint.get") return get(request.args);
  return fail(Code::kInvalid, "the network has no operation \"{}\"", request.op);
}

void Network::drain_spool() {
  const auto spool = read_spool(config_.run_dir);
  if (!spool) return log::warn(kModule, "the plugin's spool cannot be read", {{"error", spool.error()}});
  for (const std::string& path : spool->unreadable) {
    log::warn(kModule, "a file of the plugin's spool is of no use", {{"path", path}});
    unlink(path.c_str());
  }
  for (const SpooledDel& del : spool->dels) {
    const std::string key = del.container + "/" + del.ifname;
    if (making_.contains(key)) continue;  // the next look will find it made
    const auto at = endpoints_.find(key);
    if (at != endpoints_.end() && at->second.attachment.added_ns < del.asked_ns) {
      log::info(kModule, "carrying out a DEL that no agent was there for", {{"container", key}});
      if (auto detached = detach(key); !detached) {
        log::error(kModule, "a DEL is still to be carried out", {{"container", key}, {"error", detached.error()}});
        continue;
      }
      metrics::counter(registry_, "fairlead_cni_spooled_dels_total", "DELs carried out after no agent had taken them")
          .Increment();
    }
    unlink(del.path.c_str());
  }
}

// What an ADD needs is there, and pods that are there are served.
Json Network::status() {
  Json problems = Json::array();
  if (auto room = ipam_.has_room(clock_.wall()); !room) problems.push_back(room.error().message());
  for (const std::string& key : unwell_) problems.push_back(fmt::format("{}: its network could not be put right", key));
  return {{"problems", problems}, {"limitedConnectivity", !unwell_.empty()}};
}

void Network::count_addresses() {
  for (const Pool& pool : ipam_.pools()) {
    const std::string family = pool.range().family() == Family::kV4 ? "4" : "6";
    const auto set = [&](const char* state, std::uint64_t value) {
      metrics::gauge(registry_, "fairlead_ipam_addresses", "Pod addresses of this node",
                     {{"family", family}, {"state", state}})
          .Set(static_cast<double>(value));
    };
    set("used", pool.used());
    set("resting", pool.resting().size());
    set("capacity", pool.capacity());
  }
}

void Network::count_packets() {
  const auto counts = programs_.counters();
  if (!counts) {
    log::warn(kModule, "packet counters could not be read", {{"error", counts.error()}});
    return;
  }
  for (const datapath::VerdictCount& count : *counts) {
    datapath::VerdictCount& before = counted_[count.reason];
    metrics::counter(registry_, "fairlead_pod_packets_total", "Packets from and to pods, by what became of them",
                     {{"verdict", count.reason}})
        .Increment(static_cast<double>(count.packets - before.packets));
    before = count;
  }
}

}  // namespace fairlead::network
