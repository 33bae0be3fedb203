// SPDX-License-Identifier: Apache-2.0
#include "test/model/services.h"

#include <algorithm>

namespace fairlead::model {

void Services::apply(const std::string& name, const datapath::ServiceEntry& entry) {
  Service& service = services_[name];
  std::map<datapath::Backend, std::uint64_t> lives;
  for (const auto* backends : {&entry.backends, &entry.draining}) {
    for (const datapath::Backend& backend : *backends) {
      const auto before = service.lives.find(backend);
      lives[backend] = before != service.lives.end() ? before->second : next_life_++;
    }
  }
  service.entry = entry;
  service.lives = std::move(lives);
}

void Services::remove(const std::string& name) {
  services_.erase(name);
}

std::optional<std::string> Services::find(const End& destination, std::uint8_t protocol) const {
  const datapath::Frontend wanted{destination.address, destination.port, static_cast<Protocol>(protocol)};
  for (const auto& [name, service] : services_) {
    if (std::ranges::count(service.entry.frontends, wanted) != 0) return name;
  }
  return std::nullopt;
}

bool Services::has_address(const IpAddress& address) const {
  return std::ranges::any_of(services_, [&](const auto& each) {
    return std::ranges::count(each.second.entry.frontends, address, &datapath::Frontend::address) != 0;
  });
}

std::vector<Choice> Services::choices(const std::string& name, const IpAddress& client, Time now) const {
  const Service& service = services_.at(name);
  std::vector<Choice> all;
  for (const datapath::Backend& backend : service.entry.backends)
    all.push_back({{backend.address, backend.port}, {name, service.lives.at(backend)}});
  if (service.entry.affinity_timeout_s == 0) return all;
  const auto kept = kept_.find({client, name});
  if (kept == kept_.end()) return all;
  if (now - kept->second.seen >= std::chrono::seconds(service.entry.affinity_timeout_s)) return all;
  const auto same = std::ranges::find_if(all, [&](const Choice& each) { return each.life.life == kept->second.life; });
  return same == all.end() ? all : std::vector{*same};
}

void Services::chosen(const Choice& choice, const IpAddress& client, Time now) {
  const auto timeout = services_.at(choice.life.service).entry.affinity_timeout_s;
  if (timeout == 0) return;
  kept_[{client, choice.life.service}] = {choice.life.life, now, now + std::chrono::seconds(timeout)};
}

bool Services::is_gone(const BackendLife& life, Kind kind) const {
  const auto at = services_.find(life.service);
  if (at == services_.end()) return true;
  for (const auto& [backend, alive] : at->second.lives) {
    if (alive == life.life) return kind == Kind::kUdp && std::ranges::count(at->second.entry.draining, backend) != 0;
  }
  return true;
}

bool Services::is_clear(Time now, Time margin) const {
  return std::ranges::none_of(
      kept_, [&](const auto& each) { return each.second.until >= now - margin && each.second.until <= now + margin; });
}

}  // namespace fairlead::model
