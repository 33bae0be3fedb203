// SPDX-License-Identifier: Apache-2.0
// Network: what a start finds and takes over, and pod ranges that come with the Node object.
#include <algorithm>
#include <set>

#include "agent/base/cni_spool.h"
#include "agent/base/log.h"
#include "agent/network/network.h"
#include "agent/network/pod_link.h"

namespace fairlead::network {
namespace {

constexpr const char* kModule = "network";

}  // namespace

// Joins the journal with what the kernel has: devices that are up are whole and stay, anything less goes.
Result<> Network::adopt() {
  auto loaded = journal_.load();
  if (!loaded && loaded.error().code != Code::kNotFound) {
    log::error(kModule, "the address journal is unreadable: going on from devices and maps",
               {{"error", loaded.error()}});
  }
  FL_LET(const std::vector<netlink::Link> links, host_->links());
  JournalState journal = loaded ? std::move(*loaded) : journal_from_kernel(links);
  // After a reboot what it names is gone with its devices; the addresses come back, once they have rested.
  if (journal.boot != boot_ && !journal.attachments.empty()) {
    for (const Attachment& attachment : journal.attachments) {
      for (const IpAddress& address : attachment.addresses) journal.resting[address] = clock_.wall();
    }
    journal.attachments = journal_from_kernel(links).attachments;
  }
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
    endpoints_[attachment.key()] = {attachment, link->ifindex, JournalText::entry(attachment)};
    ours.erase(device);
  }
  for (std::size_t i = 0; i < ipam_.pools().size(); ++i) {
    ipam_.pools()[i].restore(journal.resting, i < journal.cursors.size() ? journal.cursors[i] : IpAddress());
  }
  FL_TRY(remove_strays());
  FL_TRY(sockets_.admit(own_cookie_, config_.node_ips));
  for (const auto& [key, endpoint] : endpoints_) {
    if (auto adopted = adopt_one(endpoint); !adopted) {
      unwell_.insert(key);
      log::error(kModule, "a pod's network could not be put right",
                 {{"pod", endpoint.attachment.pod()}, {"container", key}, {"error", adopted.error()}});
    }
  }
  tell_tables();
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

// Without a journal: what the devices' marks and the endpoint records tell. Pod names and port mappings are lost,
// traffic is not.
JournalState Network::journal_from_kernel(const std::vector<netlink::Link>& links) const {
  JournalState state;
  state.boot = boot_;
  for (const datapath::PodEndpoint& record : programs_.endpoints()) {
    const auto link = std::ranges::find(links, record.ifindex, &netlink::Link::ifindex);
    if (link == links.end()) continue;
    auto attachment = parse_device_alias(link->alias);
    if (!attachment || device_name(*attachment) != link->name) continue;
    attachment->addresses = record.addresses;
    attachment->netns_cookie = record.netns_cookie;
    if (record.mac != pod_mac(*attachment)) attachment->asked.mac = record.mac;
    if (record.shaped) {
      const auto rate = netlink::token_bucket_rate(*host_, record.ifindex);
      if (rate && *rate) attachment->asked.bandwidth.ingress_rate = **rate * 8;
    }
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
    if (!devices.contains(record.ifindex)) FL_TRY(withdraw(record.ifindex));
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
  FL_TRY(restore_ingress_limit(*host_, endpoint.ifindex, endpoint.attachment));
  return connect_host_side(*host_, endpoint.ifindex, endpoint.attachment, config_.node_ips);
}

void Network::tell_tables() const {
  std::vector<std::pair<std::string, std::shared_ptr<const model::ServedNetns>>> all;
  const auto add = [&all](const std::string& key, model::ServedNetns row) {
    all.emplace_back(key, std::make_shared<const model::ServedNetns>(std::move(row)));
  };
  add("node", {.cookie = own_cookie_, .path = "/proc/self/ns/net", .addresses = config_.node_ips});
  for (const auto& [key, endpoint] : endpoints_) add(key, served_netns(endpoint));
  namespaces_.replace(std::move(all));
  std::vector<std::pair<std::string, std::shared_ptr<const model::HostPort>>> ports;
  for (const auto& [key, endpoint] : endpoints_) {
    for (auto& [name, row] : host_ports(endpoint.attachment)) {
      ports.emplace_back(name, std::make_shared<const model::HostPort>(std::move(row)));
    }
  }
  host_ports_.replace(std::move(ports));
}

}  // namespace fairlead::network
