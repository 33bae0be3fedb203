// SPDX-License-Identifier: Apache-2.0
#include "agent/datapath/service_ids.h"

#include <utility>

namespace fairlead::datapath {

ServiceIds::ServiceIds(std::unique_ptr<GracePeriod> grace, std::uint32_t services, std::uint32_t backends,
                       RunAllocator runs, const Used& used)
    : grace_(std::move(grace)),
      services_(services, used.services),
      backends_{IdAllocator(backends, used.backends[0]), IdAllocator(backends, used.backends[1])},
      runs_(std::move(runs)) {}

void ServiceIds::reclaim() {
  while (!retired_.empty() && grace_->passed(retired_.front().ticket)) {
    put(retired_.front().elements);
    retired_.pop_front();
  }
}

template <class Take>
std::optional<std::uint32_t> ServiceIds::take_waiting(Take take) {
  for (;;) {
    if (const std::optional<std::uint32_t> taken = take()) return taken;
    if (retired_.empty()) return std::nullopt;
    grace_->wait(retired_.front().ticket);
    reclaim();
  }
}

Result<Elements> ServiceIds::take_service(std::uint32_t home, Family family) {
  reclaim();
  const auto id = take_waiting([&] { return services_.take_near(home); });
  if (!id) return fail(Code::kExhausted, "map services is full ({} entries)", services_.capacity());
  return Elements{.service = *id, .family = family, .backends = {}};
}

Result<Elements> ServiceIds::take(Family family, std::size_t backends, std::uint32_t count) {
  reclaim();
  Elements taken{.family = family};
  const auto full = [&](std::string_view map, std::uint32_t capacity) {
    put(taken);
    return fail(Code::kExhausted, "map {} is full ({} entries)", map, capacity);
  };
  IdAllocator& ids = backends_[family_slot(family)];
  while (taken.backends.size() < backends) {
    const auto id = take_waiting([&] { return ids.take(); });
    if (!id) return full(family == Family::kV4 ? "backends4" : "backends6", ids.capacity());
    taken.backends.push_back(*id);
  }
  const auto base = take_waiting([&] { return runs_.take(count); });
  if (!base) return full("runs", runs_.capacity());
  taken.base = *base;
  taken.count = count;
  return taken;
}

void ServiceIds::put(const Elements& elements) {
  if (elements.service != 0) services_.put(elements.service);
  for (const auto& ids : {elements.backends, elements.draining}) {
    for (const std::uint32_t id : ids) backends_[family_slot(elements.family)].put(id);
  }
  if (!is_own_run(elements.base)) runs_.put(elements.base, elements.count);
}

void ServiceIds::retire(Elements elements) {
  if (elements.service == 0 && elements.backends.empty() && elements.draining.empty() && elements.count == 0) {
    return;
  }
  retired_.push_back({grace_->request(), std::move(elements)});
}

}  // namespace fairlead::datapath
