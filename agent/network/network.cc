// SPDX-License-Identifier: Apache-2.0
#include "agent/network/network.h"

#include <algorithm>
#include <set>

#include "agent/base/log.h"
#include "agent/netlink/netns.h"
#include "agent/network/pod_link.h"

namespace fairlead::network {
namespace {

constexpr const char* kModule = "network";
constexpr Duration kCountPeriod = std::chrono::seconds(10);

}  // namespace

Network::Network(Loop& loop, const Clock& clock, Deps deps)
    : loop_(loop),
      clock_(clock),
      config_(std::move(deps.config)),
      programs_(deps.programs),
      sockets_(deps.sockets),
      namespaces_(std::move(deps.namespaces)),
      requests_(std::move(deps.requests)),
      registry_(deps.registry),
      journal_(config_.state_dir),
      ipam_(config_.pod_cidrs, config_.address_rest),
      node_(std::move(deps.node)) {
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
  FL_LET(own_cookie_, netlink::own_netns_cookie());
  // Before the look at what there is: nothing is missed in between.
  FL_LET(link_watch_, netlink::LinkWatch::start(loop_, {.gone = [this](std::uint32_t ifindex) { lose_device(ifindex); },
                                                        .missed = [this] { lose_missing_devices(); }}));
  FL_TRY(adopt());
  count_addresses();
  if (node_) node_->attach(loop_, [this](const state::Delta<model::Node>& delta) { node_changed(delta); });
  if (gate_) gate_->start();
  if (policies_) policies_->start();
  count_timer_ = loop_.every(kCountPeriod, [this] { count_packets(); });
  requests_.attach(loop_, [this](const Inspect& request, Reply<Json> reply) { answer(request, std::move(reply)); });
  return {};
}

// Joins the journal with what the kernel has: devices that are up are whole and stay, anything less goes.
Result<> Network::adopt() {
  auto loaded = journal_.load();
  if (!loaded && loaded.error().code != Code::kNotFound) {
    log::error(kModule, "the address journal is unreadable: going on from devices and maps",
               {{"error", loaded.error()}});
  }
  FL_LET(const std::vector<netlink::Link> links, host_->links());
  JournalState journal = loaded ? std::move(*loaded) : journal_from_kernel(links);
  if (config_.pod_cidrs.empty()) ipam_ = Ipam(journal.ranges, config_.address_rest);
  std::map<std::string, const netlink::Link*> ours;  // by device name
  for (const netlink::Link& link : links) {
    if (parse_device_alias(link.alias)) ours[link.name] = &link;
  }
  for (const Attachment& attachment : journal.attachments) {
    const std::string device = device_name(attachment);
    // A crash between a device's birth and its mark leaves one that only the journal names.
    const auto link = std::ranges::find(links, device, &netlink::Link::name);
    if (link == links.end() || !link->up) {
      for (const IpAddress& address : attachment.addresses) journal.resting[address] = clock_.wall();
      if (link != links.end()) ours[device] = &*link;
      continue;
    }
    FL_TRY(ipam_.claim(attachment.addresses));
    endpoints_[attachment.key()] = {attachment, link->ifindex};
    ours.erase(device);
  }
  for (std::size_t i = 0; i < ipam_.pools().size(); ++i) {
    ipam_.pools()[i].restore(journal.resting, i < journal.cursors.size() ? journal.cursors[i] : IpAddress());
  }
  FL_TRY(remove_strays());
  FL_TRY(sockets_.admit(own_cookie_, config_.node_ips));
  for (const auto& [key, endpoint] : endpoints_) {
    if (auto adopted = adopt_one(endpoint); !adopted) {
      log::error(kModule, "a pod's network could not be put right",
                 {{"pod", endpoint.attachment.pod()}, {"container", key}, {"error", adopted.error()}});
    }
  }
  tell_namespaces();
  for (const auto& [device, link] : ours) {
    log::info(kModule, "removing a device that nobody needs", {{"device", device}});
    reaper_->remove(link->ifindex);
  }
  // A full disk keeps no node from its pods: what the journal would say is in force, and the next change writes it.
  if (auto saved = save(); !saved) log::error(kModule, "the journal is behind", {{"error", saved.error()}});
  return {};
}

void Network::node_changed(const state::Delta<model::Node>& delta) {
  for (const auto& change : delta.changes) {
    if (change.after != nullptr && !change.after->pod_cidrs.empty()) use_ranges(change.after->pod_cidrs);
  }
}

// A Node that was registered anew may have got other ranges: new pods get addresses of those, the others keep theirs.
void Network::use_ranges(const std::vector<Cidr>& ranges) {
  if (!config_.pod_cidrs.empty() || std::ranges::equal(ranges, ipam_.pools(), {}, {}, &Pool::range)) return;
  Ipam fresh(ranges, config_.address_rest);
  for (const auto& [key, endpoint] : endpoints_) {
    if (auto claimed = fresh.claim(endpoint.attachment.addresses); !claimed) {
      log::error(kModule, "a pod's address is another's too", {{"container", key}, {"error", claimed.error()}});
    }
  }
  for (const Pool& old : ipam_.pools()) {
    for (Pool& pool : fresh.pools()) {
      if (pool.range().family() == old.range().family()) pool.restore(old.resting(), old.cursor());
    }
  }
  ipam_ = std::move(fresh);
  std::string text;
  for (const Cidr& range : ranges) text += (text.empty() ? "" : ",") + range.str();
  log::info(kModule, "pods get addresses of the Node object's ranges", {{"ranges", text}});
  if (auto saved = save(true); !saved) log::warn(kModule, "the journal is behind", {{"error", saved.error()}});
  count_addresses();
}

// Without a journal: what the devices' marks and the endpoint records tell. Pod names are lost, traffic is not.
JournalState Network::journal_from_kernel(const std::vector<netlink::Link>& links) const {
  JournalState state;
  for (const datapath::PodEndpoint& record : programs_.endpoints()) {
    const auto link = std::ranges::find(links, record.ifindex, &netlink::Link::ifindex);
    if (link == links.end()) continue;
    auto attachment = parse_device_alias(link->alias);
    if (!attachment || device_name(*attachment) != link->name) continue;
    attachment->addresses = record.addresses;
    attachment->netns_cookie = record.netns_cookie;
    state.attachments.push_back(std::move(*attachment));
  }
  return state;
}

// Takes out of the maps what no attachment of ours accounts for.
Result<> Network::remove_strays() {
  std::set<std::uint32_t> devices;
  std::set<std::uint64_t> cookies{own_cookie_};
  for (const auto& [key, endpoint] : endpoints_) {
    devices.insert(endpoint.ifindex);
    cookies.insert(endpoint.attachment.netns_cookie);
  }
  for (const datapath::PodEndpoint& record : programs_.endpoints()) {
    if (!devices.contains(record.ifindex)) FL_TRY(programs_.erase(record.ifindex));
  }
  FL_LET(const std::vector<std::uint64_t> admitted, sockets_.admitted());
  for (const std::uint64_t cookie : admitted) {
    if (!cookies.contains(cookie)) FL_TRY(sockets_.dismiss(cookie));
  }
  return {};
}

Result<> Network::adopt_one(const Endpoint& endpoint) {
  FL_TRY(publish(endpoint));
  FL_TRY(sockets_.admit(endpoint.attachment.netns_cookie, endpoint.attachment.addresses));
  FL_TRY(programs_.attach(endpoint.ifindex));
  return connect_host_side(*host_, endpoint.ifindex, endpoint.attachment, config_.node_ips);
}

void Network::tell_namespaces() const {
  std::vector<std::pair<std::string, std::shared_ptr<const model::ServedNetns>>> all;
  const auto add = [&all](const std::string& key, model::ServedNetns row) {
    all.emplace_back(key, std::make_shared<const model::ServedNetns>(std::move(row)));
  };
  add("node", {.cookie = own_cookie_, .path = "/proc/self/ns/net", .addresses = config_.node_ips});
  for (const auto& [key, endpoint] : endpoints_) add(key, served_netns(endpoint));
  namespaces_.replace(std::move(all));
}

void Network::answer(const Inspect& request, Reply<Json> reply) {
  const TimePoint begin = clock_.now();
  const auto attachment = parse_attachment(request.args, true);
  if (request.op != "cni.add" || !attachment) return answer_now(request, begin, {}, std::move(reply));
  await_pod(*attachment, [this, request, begin, reply = std::move(reply)](Result<> known) mutable {
    answer_now(request, begin, std::move(known), std::move(reply));
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

void Network::policy_changed(const model::PodPolicy& row) {
  for (const auto& [key, endpoint] : endpoints_) {
    if (endpoint.ifindex == 0 || !is_for(endpoint.attachment, row.pod)) continue;
    if (auto published = publish(endpoint); !published) {
      log::error(kModule, "a pod keeps its old policy",
                 {{"pod", endpoint.attachment.pod()}, {"container", key}, {"error", published.error()}});
    }
  }
}

void Network::answer_now(const Inspect& request, TimePoint begin, Result<> before, Reply<Json> reply) {
  Result<Json> result = before ? dispatch(request) : std::unexpected(std::move(before).error());
  if (request.op.starts_with("cni.")) {
    metrics::seconds_histogram(registry_, "fairlead_cni_request_seconds", "Time taken by requests of the CNI plugin",
                               {{"op", request.op}})
        .Observe(std::chrono::duration<double>(clock_.now() - begin).count());
    if (!result) {
      metrics::counter(registry_, "fairlead_cni_failures_total", "Failed requests of the CNI plugin",
                       {{"op", request.op}, {"code", std::string(to_string(result.error().code))}})
          .Increment();
      log::warn(kModule, "a CNI request failed", {{"op", request.op}, {"error", result.error()}});
    }
    count_addresses();
  }
  reply(std::move(result));
}

Result<Json> Network::dispatch(const Inspect& request) {
  if (request.op == "cni.add") return add(request.args);
  if (request.op == "cni.del") return del(request.args);
  if (request.op == "cni.check") return check(request.args);
  if (request.op == "endpoint.list") return list();
  if (request.op == "endpoint.get") return get(request.args);
  return fail(Code::kInvalid, "the network has no operation \"{}\"", request.op);
}

Result<Json> Network::add(const Json& args) {
  FL_LET(Attachment attachment, parse_attachment(args, true));
  FL_LET(const std::string version, parse_cni_version(args));
  FL_LET(netlink::Netns pod, netlink::open_netns(attachment.netns));
  if (pod.cookie == own_cookie_) return fail(Code::kInvalid, "argument netns: {} is the node's own", attachment.netns);
  const std::string key = attachment.key();
  if (const auto at = endpoints_.find(key); at != endpoints_.end()) {
    // Asked again: the same answer while it holds, else from the start.
    const Attachment& there = at->second.attachment;
    if (there.netns_cookie == pod.cookie && verify(at->second, pod)) return cni_result(there, version, config_.mtu);
    FL_TRY(detach(key));
  }
  attachment.netns_cookie = pod.cookie;
  FL_LET(attachment.addresses, ipam_.allocate(clock_.wall()));
  Undo undo;
  undo.push_back([&] {
    ipam_.release(attachment.addresses, clock_.wall());
    endpoints_.erase(key);
    if (auto saved = save(); !saved) log::warn(kModule, "the journal is behind", {{"error", saved.error()}});
  });
  endpoints_[key] = {attachment, 0};
  Result<std::uint32_t> made = fail(Code::kSystem, "not tried");
  if (auto saved = save(); !saved) {
    made = std::unexpected(std::move(saved).error());
  } else {
    made = attach(attachment, pod, undo);
  }
  if (!made) {
    for (auto step = undo.rbegin(); step != undo.rend(); ++step) (*step)();
    return fail_with(std::move(made).error(), fmt::format("pod {} ({})", attachment.pod(), key));
  }
  endpoints_[key].ifindex = *made;
  namespaces_.upsert(key, served_netns(endpoints_[key]));
  return cni_result(attachment, version, config_.mtu);
}

// The guard before either end is up; the host side up last, which says that all is done.
Result<std::uint32_t> Network::attach(const Attachment& attachment, netlink::Netns& pod, Undo& undo) {
  if (const auto stale = host_->find_link(device_name(attachment))) {
    const auto owner = parse_device_alias(stale->alias);
    if (!owner || owner->key() != attachment.key()) {
      return fail(Code::kExists, "device {} exists and is not this attachment's", stale->name);
    }
    FL_TRY(host_->delete_link(stale->ifindex));  // waits in the background's queue, or a failed ADD left it
  }
  FL_LET(const std::uint32_t ifindex, make_pod_link(*host_, pod, attachment, config_.mtu));
  undo.push_back([this, ifindex] { reaper_->remove(ifindex); });
  undo.push_back([this, ifindex] { (void)programs_.erase(ifindex); });
  FL_TRY(publish({attachment, ifindex}));
  undo.push_back([this, cookie = attachment.netns_cookie] { (void)sockets_.dismiss(cookie); });
  FL_TRY(sockets_.admit(attachment.netns_cookie, attachment.addresses));
  FL_TRY(programs_.attach(ifindex));
  FL_TRY(connect_pod_side(pod, attachment));
  FL_TRY(connect_host_side(*host_, ifindex, attachment, config_.node_ips));
  return ifindex;
}

Result<Json> Network::del(const Json& args) {
  FL_LET(const Attachment attachment, parse_attachment(args, false));
  FL_TRY(detach(attachment.key()));
  return Json::object();
}

Result<> Network::detach(const std::string& key) {
  const auto at = endpoints_.find(key);
  if (at == endpoints_.end()) return {};
  const Endpoint& endpoint = at->second;
  FL_TRY(programs_.erase(endpoint.ifindex));
  FL_TRY(sockets_.dismiss(endpoint.attachment.netns_cookie));
  if (endpoint.ifindex != 0) reaper_->remove(endpoint.ifindex);
  ipam_.release(endpoint.attachment.addresses, clock_.wall());
  endpoints_.erase(at);
  namespaces_.erase(key);
  // A journal that still names it costs the next start a look at a device that is gone.
  if (auto saved = save(); !saved) log::warn(kModule, "the journal is behind", {{"error", saved.error()}});
  return {};
}

void Network::lose_device(std::uint32_t ifindex) {
  for (auto& [key, endpoint] : endpoints_) {
    if (ifindex == 0 || endpoint.ifindex != ifindex) continue;
    log::info(kModule, "a pod's device is gone", {{"pod", endpoint.attachment.pod()}, {"container", key}});
    if (auto erased = programs_.erase(ifindex); !erased) {
      log::error(kModule, "a lost device stays in the maps", {{"container", key}, {"error", erased.error()}});
      continue;  // DEL will try again
    }
    endpoint.ifindex = 0;
  }
}

void Network::lose_missing_devices() {
  const auto links = host_->links();
  if (!links) {
    log::error(kModule, "changes of devices were missed", {{"error", links.error()}});
    return;
  }
  for (const datapath::PodEndpoint& record : programs_.endpoints()) {
    if (std::ranges::find(*links, record.ifindex, &netlink::Link::ifindex) == links->end()) lose_device(record.ifindex);
  }
}

Result<Json> Network::check(const Json& args) {
  FL_LET(const Attachment attachment, parse_attachment(args, true));
  const auto at = endpoints_.find(attachment.key());
  if (at == endpoints_.end()) return fail(Code::kNotFound, "no attachment {}", attachment.key());
  FL_LET(netlink::Netns pod, netlink::open_netns(attachment.netns));
  FL_TRY(verify(at->second, pod));
  return Json::object();
}

Result<> Network::verify(const Endpoint& endpoint, netlink::Netns& pod) {
  FL_LET(const netlink::Link link, host_->find_link(device_name(endpoint.attachment)));
  if (link.ifindex != endpoint.ifindex || !link.up)
    return fail(Code::kNotFound, "device {} is not as it was", link.name);
  FL_LET(const bool guarded, programs_.attached(endpoint.ifindex));
  if (!guarded) return fail(Code::kNotFound, "device {} has lost its filters", link.name);
  return verify_pod_side(pod, endpoint.attachment);
}

Json Network::list() const {
  Json all = Json::array();
  for (const auto& [key, endpoint] : endpoints_) all.push_back(describe(endpoint));
  return all;
}

Result<Json> Network::get(const Json& args) const {
  const auto name = args.is_object() ? args.find("name") : args.end();
  if (!args.is_object() || name == args.end() || !name->is_string())
    return fail(Code::kInvalid, "argument name: want a string");
  const auto wanted = name->get<std::string>();
  for (const auto& [key, endpoint] : endpoints_) {
    const Attachment& attachment = endpoint.attachment;
    const bool by_address =
        std::ranges::any_of(attachment.addresses, [&](const auto& ip) { return ip.str() == wanted; });
    if (by_address || wanted == attachment.container || wanted == attachment.pod() ||
        wanted == device_name(attachment)) {
      return describe(endpoint);
    }
  }
  return fail(Code::kNotFound, "no endpoint \"{}\"", wanted);
}

Json Network::describe(const Endpoint& endpoint) const {
  Json json = to_json(endpoint.attachment);
  json["device"] = device_name(endpoint.attachment);
  json["ifindex"] = endpoint.ifindex;
  json["mac"] = to_string(pod_mac(endpoint.attachment));
  json["hostMac"] = to_string(host_mac(endpoint.attachment));
  return json;
}

datapath::PodEndpoint Network::pod_endpoint(const Endpoint& endpoint) const {
  return {.ifindex = endpoint.ifindex,
          .netns_cookie = endpoint.attachment.netns_cookie,
          .mac = pod_mac(endpoint.attachment),
          .host_mac = host_mac(endpoint.attachment),
          .addresses = endpoint.attachment.addresses};
}

model::ServedNetns Network::served_netns(const Endpoint& endpoint) {
  const Attachment& attachment = endpoint.attachment;
  return {.cookie = attachment.netns_cookie,
          .path = attachment.netns,
          .addresses = attachment.addresses,
          .ifindex = endpoint.ifindex,
          .pod = {attachment.pod_ns, attachment.pod_name, attachment.pod_uid}};
}

Result<> Network::save(bool durable) const {
  JournalState state;
  for (const auto& [key, endpoint] : endpoints_) state.attachments.push_back(endpoint.attachment);
  for (const Pool& pool : ipam_.pools()) {
    state.resting.insert(pool.resting().begin(), pool.resting().end());
    state.cursors.push_back(pool.cursor());
    state.ranges.push_back(pool.range());
  }
  return journal_.save(state, durable);
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
