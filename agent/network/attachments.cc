// SPDX-License-Identifier: Apache-2.0
// Network: making, checking and ending one attachment.
#include <algorithm>

#include "agent/base/cni_spool.h"
#include "agent/base/log.h"
#include "agent/netlink/netns.h"
#include "agent/network/network.h"
#include "agent/network/pod_link.h"

namespace fairlead::network {
namespace {

constexpr const char* kModule = "network";

}  // namespace

void Network::add(const Json& args, Done done) {
  auto asked = open_pod(args);
  if (!asked) return done(std::unexpected(std::move(asked).error()));
  const std::string key = asked->attachment.key();
  if (auto same = renew(*asked)) return done(std::move(*same));
  Making making{.job = std::move(*asked), .done = std::move(done), .mtu = config_.mtu};
  if (auto reserved = reserve(making); !reserved) return making.done(std::unexpected(std::move(reserved).error()));
  making_.emplace(key, std::move(making));
  reserved_.push_back(key);
  // Those that are in the loop's queue by now are written down together.
  if (reserved_.size() == 1) loop_.post([this] { make_reserved(); });
}

void Network::make_reserved() {
  const Result<> saved = save();
  for (const std::string& key : std::exchange(reserved_, {})) {
    Making& making = making_.at(key);
    if (auto begun = saved ? make(making) : saved; !begun) {
      made(key, std::move(begun));
    } else {
      connector_->connect(making.job, loop_, [this, key](Result<> connected) { made(key, std::move(connected)); });
    }
  }
}

Result<Connector::Job> Network::open_pod(const Json& args) const {
  FL_LET(Attachment attachment, parse_attachment(args, true));
  auto opened = netlink::open_netns(attachment.netns);
  if (!opened) return fail_with(std::move(opened).error(), "CNI_NETNS");
  if (opened->cookie == own_cookie_) return fail(Code::kInvalid, "CNI_NETNS: {} is the node's own", attachment.netns);
  attachment.netns_cookie = opened->cookie;
  attachment.added_ns = boot_time_ns();
  return Connector::Job{std::move(attachment), std::move(*opened), {}, config_.node_ips};
}

// Asked again: the same answer while it holds, else nothing, and what is there is gone.
std::optional<Result<Json>> Network::renew(Connector::Job& asked) {
  const std::string key = asked.attachment.key();
  const auto at = endpoints_.find(key);
  if (at == endpoints_.end()) return {};
  Attachment& there = at->second.attachment;
  if (there.netns_cookie != asked.attachment.netns_cookie || there.asked != asked.attachment.asked ||
      !verify(at->second, asked.pod)) {
    if (auto detached = detach(key); !detached) return std::unexpected(std::move(detached).error());
    return {};
  }
  there.added_ns = asked.attachment.added_ns;
  at->second.journaled = JournalText::entry(there);
  const auto link = host_->find_link(device_name(there));
  if (!link) return std::unexpected(link.error());
  return cni_result(there, link->mtu);
}

// Addresses and host ports, for this attachment alone.
Result<> Network::reserve(Making& making) {
  Attachment& attachment = making.job.attachment;
  FL_TRY(may_map(attachment));
  FL_LET(attachment.addresses, allocate(attachment));
  endpoints_[attachment.key()] = {attachment, 0, JournalText::entry(attachment)};
  making.undo.push_back([this, key = attachment.key(), addresses = attachment.addresses] {
    ipam_.release(addresses, clock_.wall());
    endpoints_.erase(key);
    if (auto saved = save(); !saved) log::warn(kModule, "the journal is behind", {{"error", saved.error()}});
  });
  return {};
}

// Known to the maps before it is connected.
Result<> Network::make(Making& making) {
  const Attachment& attachment = making.job.attachment;
  FL_LET(making.job.ends, make_link(attachment, making.job.pod));
  const std::uint32_t ifindex = making.job.ends.ifindex;
  Endpoint& endpoint = endpoints_[attachment.key()];
  endpoint.ifindex = ifindex;
  making.undo.push_back([this, ifindex] { reaper_->remove(ifindex); });
  making.undo.push_back([this, ifindex] { (void)withdraw(ifindex); });
  FL_TRY(publish(endpoint));
  making.undo.push_back([this, cookie = attachment.netns_cookie] { (void)sockets_.dismiss(cookie); });
  return sockets_.admit(attachment.netns_cookie, attachment.addresses);
}

void Network::made(const std::string& key, Result<> connected) {
  Making making = std::move(making_.extract(key).mapped());
  const Endpoint& endpoint = endpoints_[key];
  if (connected) {
    namespaces_.upsert(key, served_netns(endpoint));
    for (auto& [name, row] : host_ports(endpoint.attachment)) host_ports_.upsert(name, std::move(row));
    making.done(cni_result(endpoint.attachment, making.mtu));
  } else {
    Error error = std::move(connected).error();
    auto failed = fail_with(std::move(error), fmt::format("pod {} ({})", endpoint.attachment.pod(), key));
    for (auto step = making.undo.rbegin(); step != making.undo.rend(); ++step) (*step)();
    making.done(std::move(failed));
  }
  for (Task& request : making.later) request();
}

Result<std::vector<IpAddress>> Network::allocate(const Attachment& attachment) {
  auto addresses = ipam_.allocate(clock_.wall(), attachment.asked.ips);
  if (addresses) return addresses;
  if (addresses.error().code == Code::kExhausted) {
    metrics::counter(registry_, "fairlead_ipam_exhausted_total", "ADDs for which there was no free pod address")
        .Increment();
    return addresses;
  }
  if (addresses.error().code == Code::kUnavailable) return addresses;
  return fail_with(std::move(addresses).error(), "argument runtimeConfig.ips");
}

Result<> Network::may_map(const Attachment& attachment) const {
  for (const PortMapping& mapping : attachment.asked.port_mappings) {
    const std::string service = node_ports_ ? node_ports_->owner(mapping.host_port, mapping.protocol) : std::string();
    if (!service.empty()) {
      return fail(Code::kExists, "argument runtimeConfig.portMappings: {} is a node port of Service {}", mapping.str(),
                  service);
    }
    for (const auto& [key, endpoint] : endpoints_) {
      const std::vector<PortMapping>& taken = endpoint.attachment.asked.port_mappings;
      if (std::ranges::any_of(taken, [&](const PortMapping& each) { return collide(each, mapping); })) {
        return fail(Code::kExists, "argument runtimeConfig.portMappings: {} is pod {}'s ({})", mapping.str(),
                    endpoint.attachment.pod(), key);
      }
    }
  }
  return {};
}

// By their names in the table.
std::map<std::string, model::HostPort> Network::host_ports(const Attachment& attachment) {
  std::map<std::string, model::HostPort> rows;
  for (const PortMapping& mapping : attachment.asked.port_mappings) {
    model::HostPort row{.pod = {attachment.pod_ns, attachment.pod_name, attachment.pod_uid},
                        .protocol = mapping.protocol,
                        .host_address = mapping.host_ip,
                        .host_port = mapping.host_port,
                        .container_port = mapping.container_port,
                        .pod_addresses = {}};
    if (mapping.host_ip && mapping.host_ip->is_unspecified()) row.host_address.reset();
    for (const IpAddress& address : attachment.addresses) {
      if (!mapping.host_ip || mapping.host_ip->family() == address.family()) row.pod_addresses.push_back(address);
    }
    if (!row.pod_addresses.empty()) rows[attachment.key() + ":" + mapping.str()] = std::move(row);
  }
  return rows;
}

// The pair; where its name is taken by what is left of an earlier one, in that one's place.
Result<netlink::VethEnds> Network::make_link(const Attachment& attachment, const netlink::Netns& pod) {
  auto made = make_pod_link(*host_, pod, attachment, config_.mtu);
  if (made || made.error().code != Code::kExists) return made;
  if (const auto stale = host_->find_link(device_name(attachment))) {
    const auto owner = parse_device_alias(stale->alias);
    if (!owner || owner->key() != attachment.key()) {
      return fail(Code::kExists, "device {} exists and is not this attachment's", stale->name);
    }
    FL_TRY(host_->delete_link(stale->ifindex));  // waits in the background's queue, or a failed ADD left it
    made = make_pod_link(*host_, pod, attachment, config_.mtu);
    if (made || made.error().code != Code::kExists) return made;
  }
  return fail(Code::kInvalid, "CNI_IFNAME: {} exists in {}", attachment.ifname, attachment.netns);
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
  FL_TRY(withdraw(endpoint.ifindex));
  FL_TRY(sockets_.dismiss(endpoint.attachment.netns_cookie));
  for (const auto& [name, row] : host_ports(endpoint.attachment)) host_ports_.erase(name);
  if (endpoint.ifindex != 0) reaper_->remove(endpoint.ifindex);
  ipam_.release(endpoint.attachment.addresses, clock_.wall());
  unwell_.erase(key);
  namespaces_.erase(key);
  endpoints_.erase(at);
  // A journal that still names it costs the next start a look at a device that is gone.
  if (auto saved = save(); !saved) log::warn(kModule, "the journal is behind", {{"error", saved.error()}});
  return {};
}

void Network::lose_device(std::uint32_t ifindex) {
  for (auto& [key, endpoint] : endpoints_) {
    if (ifindex == 0 || endpoint.ifindex != ifindex) continue;
    log::info(kModule, "a pod's device is gone", {{"pod", endpoint.attachment.pod()}, {"container", key}});
    if (auto erased = withdraw(ifindex); !erased) {
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

// The network's attachments that nobody names go; so do those of which nobody remembers the network.
Result<Json> Network::gc(const Json& args) {
  FL_LET(const GarbageList list, parse_garbage_list(args));
  std::vector<std::string> stale;
  for (const auto& [key, endpoint] : endpoints_) {
    const std::string& network = endpoint.attachment.network;
    if (making_.contains(key)) continue;  // the runtime could not know of it when it made its list
    if ((network.empty() || network == list.network) && !list.valid.contains(key)) stale.push_back(key);
  }
  Result<> outcome;
  for (const std::string& key : stale) {
    log::info(kModule, "removing an attachment that the runtime does not know", {{"container", key}});
    if (auto detached = detach(key); !detached && outcome) outcome = fail_with(std::move(detached).error(), key);
  }
  if (auto strays = remove_strays(); !strays && outcome) outcome = std::move(strays);
  FL_LET(const std::vector<netlink::Link> links, host_->links());
  for (const netlink::Link& link : links) {
    const auto owner = parse_device_alias(link.alias);
    if (owner && device_name(*owner) == link.name && !endpoints_.contains(owner->key())) reaper_->remove(link.ifindex);
  }
  FL_TRY(std::move(outcome));
  return Json::object();
}

Result<Json> Network::check(const Json& args) {
  FL_LET(const Attachment attachment, parse_attachment(args, true));
  const auto at = endpoints_.find(attachment.key());
  if (at == endpoints_.end()) return fail(Code::kNotFound, "no attachment {}", attachment.key());
  auto opened = netlink::open_netns(attachment.netns);
  if (!opened) return fail(Code::kConflict, "{}: {}", attachment.key(), opened.error().message());
  if (opened->cookie != at->second.attachment.netns_cookie) {
    return fail(Code::kConflict, "{}: {} is another namespace than it was", attachment.key(), attachment.netns);
  }
  auto sound = verify(at->second, *opened);
  if (sound && args.contains("prevResult")) sound = compare(at->second.attachment, args["prevResult"]);
  if (!sound) return fail(Code::kConflict, "{}: {}", attachment.key(), sound.error().message());
  return Json::object();
}

Result<> Network::verify(const Endpoint& endpoint, netlink::Netns& pod) {
  FL_LET(const netlink::Link link, host_->find_link(device_name(endpoint.attachment)));
  if (link.ifindex != endpoint.ifindex || !link.up)
    return fail(Code::kConflict, "device {} is not as it was", link.name);
  FL_LET(const bool guarded, programs_.attached(endpoint.ifindex));
  if (!guarded) return fail(Code::kConflict, "device {} has lost its filters", link.name);
  FL_TRY(verify_limits(*host_, pod, endpoint.ifindex, endpoint.attachment));
  return verify_pod_side(pod, endpoint.attachment);
}

datapath::PodEndpoint Network::pod_endpoint(const Endpoint& endpoint) const {
  return {.ifindex = endpoint.ifindex,
          .netns_cookie = endpoint.attachment.netns_cookie,
          .mac = pod_mac(endpoint.attachment),
          .host_mac = host_mac(endpoint.attachment),
          .addresses = endpoint.attachment.addresses,
          .shaped = endpoint.attachment.asked.bandwidth.ingress_rate != 0};
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
  JournalText text(boot_);
  for (const auto& [key, endpoint] : endpoints_) text.add_attachment(endpoint.journaled);
  for (const Pool& pool : ipam_.pools()) {
    text.add_resting(pool.resting());
    text.add_cursor(pool.cursor());
    text.add_range(pool.range());
  }
  return journal_.save(text, durable);
}

}  // namespace fairlead::network
