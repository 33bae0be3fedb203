// SPDX-License-Identifier: Apache-2.0
#include "agent/services/cluster_ip.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>

#include "agent/base/atomic_file.h"
#include "agent/base/log.h"
#include "agent/services/families.h"

namespace fairlead::services {
namespace {

using Json = nlohmann::json;

constexpr int kVersion = 1;

// FNV-1a: the same on every build and machine, unlike std::hash.
std::uint64_t hash(std::string_view text) {
  std::uint64_t value = 0xcbf29ce484222325U;
  for (const char c : text) value = (value ^ static_cast<unsigned char>(c)) * 0x100000001b3U;
  return value;
}

// How many addresses of a range can be given out, from offset 1: not the base, and not IPv4's broadcast address.
std::uint64_t usable(const Cidr& range) {
  const std::uint64_t reserved = range.family() == Family::kV4 ? 2 : 1;
  return range.size() > reserved ? range.size() - reserved : 0;
}

bool can_give(const Cidr& range, const IpAddress& address) {
  if (!range.contains(address)) return false;
  const std::uint64_t offset = range.offset_of(address);
  return offset >= 1 && offset <= usable(range);
}

bool has_family(const std::vector<IpAddress>& addresses, Family family) {
  return std::ranges::find(addresses, family, &IpAddress::family) != addresses.end();
}

}  // namespace

Result<ClusterIpAllocator> ClusterIpAllocator::open(std::vector<Cidr> ranges, std::string path) {
  ClusterIpAllocator allocator(std::move(ranges), std::move(path));
  const auto text = read_file(allocator.path_);
  if (!text) {
    if (text.error().code == Code::kNotFound) return allocator;
    return fail_with(text.error(), "ClusterIPs");
  }
  if (const auto loaded = allocator.load(*text); !loaded) {
    const std::string aside = allocator.path_ + ".corrupt";
    if (std::rename(allocator.path_.c_str(), aside.c_str()) != 0) {
      return fail_errno(errno, fmt::format("ClusterIPs: rename {} to {}", allocator.path_, aside));
    }
    log::error("services", "file of ClusterIPs set aside; addresses are given anew",
               {{"file", allocator.path_}, {"kept_as", aside}, {"error", loaded.error()}});
  }
  return allocator;
}

Result<> ClusterIpAllocator::load(const std::string& text) {
  const Json file = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!file.is_object()) return fail(Code::kInvalid, "{}: not a JSON object, or cut short", path_);
  const auto version = file.find("version");
  if (version == file.end() || *version != kVersion) {
    return fail(Code::kInvalid, "{}: version: {} expected, found {}", path_, kVersion,
                version == file.end() ? "none" : version->dump());
  }
  const auto services = file.find("clusterIPs");
  if (services == file.end() || !services->is_object()) return fail(Code::kInvalid, "{}: clusterIPs: no object", path_);
  std::map<std::string, std::vector<IpAddress>> held;
  std::map<IpAddress, std::string> owner;
  for (const auto& [key, list] : services->items()) {
    if (!list.is_array()) return fail(Code::kInvalid, "{}: clusterIPs[\"{}\"]: no array", path_, key);
    for (const Json& item : list) {
      if (!item.is_string()) return fail(Code::kInvalid, "{}: clusterIPs[\"{}\"]: no string", path_, key);
      const auto address = IpAddress::parse(item.get_ref<const std::string&>());
      if (!address) return fail_with(address.error(), fmt::format("{}: clusterIPs[\"{}\"]", path_, key));
      const auto [at, fresh] = owner.emplace(*address, key);
      if (!fresh) {
        return fail(Code::kInvalid, "{}: clusterIPs: {} is given to both {} and {}", path_, *address, at->second, key);
      }
      const Cidr* range = range_of(address->family());
      if (range != nullptr && can_give(*range, *address)) {
        held[key].push_back(*address);
        continue;
      }
      owner.erase(at);
      changed_ = true;
      log::warn("services", "remembered ClusterIP is outside the service CIDRs",
                {{"service", key}, {"address", *address}});
    }
  }
  held_ = std::move(held);
  owner_ = std::move(owner);
  return {};
}

const Cidr* ClusterIpAllocator::range_of(Family family) const {
  const auto at = std::ranges::find(ranges_, family, &Cidr::family);
  return at == ranges_.end() ? nullptr : &*at;
}

Result<> ClusterIpAllocator::check_declared(const model::Service& service, const IpAddress& address) const {
  const Cidr* range = range_of(address.family());
  if (range == nullptr || !can_give(*range, address)) {
    return fail(Code::kInvalid, "Service {}: spec.clusterIPs: {} is no address of the service CIDR{}", service.id.key(),
                address, range == nullptr ? "s" : " " + range->str());
  }
  if (const auto at = owner_.find(address); at != owner_.end() && at->second != service.id.key()) {
    return fail(Code::kConflict, "Service {}: spec.clusterIPs: {} is the address of Service {} already",
                service.id.key(), address, at->second);
  }
  return {};
}

Result<IpAddress> ClusterIpAllocator::find_free(const std::string& service_key, const Cidr& range) const {
  const std::uint64_t count = usable(range);
  std::uint64_t band = std::clamp<std::uint64_t>(range.size() / 16, 16, 256);  // kept for declared addresses
  if (band >= count) band = 0;
  const std::uint64_t start = hash(service_key);
  // Probes `length` offsets from `first`, in a ring that begins where the name says.
  const auto probe = [&](std::uint64_t first, std::uint64_t length) -> std::optional<IpAddress> {
    for (std::uint64_t i = 0; i < length; ++i) {
      IpAddress address = range.at(first + (start % length + i) % length);
      if (!owner_.contains(address)) return address;
    }
    return std::nullopt;
  };
  if (const auto address = probe(1 + band, count - band)) return *address;
  if (const auto address = probe(1, band)) return *address;
  return fail(Code::kExhausted, "Service {}: no address is free in the service CIDR {}", service_key, range);
}

Result<std::vector<IpAddress>> ClusterIpAllocator::assign(const model::Service& service) {
  const std::string key = service.id.key();
  for (const IpAddress& address : service.cluster_ips) FL_TRY(check_declared(service, address));
  std::vector<Family> configured;
  for (const Cidr& range : ranges_) configured.push_back(range.family());
  if (service.family_policy == model::FamilyPolicy::kRequireDualStack && configured.size() < 2) {
    return fail(Code::kInvalid, "Service {}: spec.ipFamilyPolicy: RequireDualStack needs two service CIDRs", key);
  }
  const auto at = held_.find(key);
  const std::vector<IpAddress> before = at == held_.end() ? std::vector<IpAddress>() : at->second;
  std::vector<IpAddress> addresses = service.cluster_ips;
  for (const Family family : families_of(service, configured)) {
    if (has_family(addresses, family)) continue;
    if (const auto kept = std::ranges::find(before, family, &IpAddress::family); kept != before.end()) {
      addresses.push_back(*kept);
      continue;
    }
    const Cidr* range = range_of(family);
    if (range != nullptr) {
      FL_LET(IpAddress address, find_free(key, *range));
      addresses.push_back(address);
    } else if (service.family_policy != model::FamilyPolicy::kPreferDualStack) {
      return fail(Code::kInvalid, "Service {}: spec.ipFamilies: there is no service CIDR for IPv{}", key,
                  static_cast<int>(family));
    }
  }
  if (addresses != before) {
    release(key);
    for (const IpAddress& address : addresses) owner_.emplace(address, key);
    held_.emplace(key, addresses);
    changed_ = true;
  }
  return addresses;
}

void ClusterIpAllocator::release(const std::string& service_key) {
  const auto at = held_.find(service_key);
  if (at == held_.end()) return;
  for (const IpAddress& address : at->second) owner_.erase(address);
  held_.erase(at);
  changed_ = true;
}

void ClusterIpAllocator::retain(const std::set<std::string>& service_keys) {
  std::vector<std::string> gone;
  for (const auto& [key, addresses] : held_) {
    if (!service_keys.contains(key)) gone.push_back(key);
  }
  for (const std::string& key : gone) release(key);
}

Result<> ClusterIpAllocator::save() {
  if (!changed_) return {};
  Json services = Json::object();
  for (const auto& [key, addresses] : held_) {
    Json& list = services[key] = Json::array();
    for (const IpAddress& address : addresses) list.push_back(address.str());
  }
  FL_TRY(write_atomically(path_, Json{{"version", kVersion}, {"clusterIPs", std::move(services)}}.dump(2) + "\n"));
  changed_ = false;
  return {};
}

}  // namespace fairlead::services
