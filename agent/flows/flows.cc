// SPDX-License-Identifier: Apache-2.0
#include "agent/flows/flows.h"

#include <net/if.h>
#include <spdlog/fmt/chrono.h>

#include <algorithm>
#include <type_traits>
#include <utility>

#include "agent/base/log.h"

namespace fairlead::flows {
namespace {

constexpr const char* kModule = "flows";
constexpr std::size_t kPage = 4096;  // connections in an answer, which may have 16 MiB
constexpr std::size_t kSeenKept = 16'384;
constexpr auto kMonitorRests = std::chrono::seconds(10);  // without a question nobody monitors any more
constexpr auto kServicesPatience = std::chrono::seconds(2);
constexpr auto kSweepPatience = std::chrono::seconds(30);  // a sweep comes by each 5 s

std::string format_time(WallTime time) {
  const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count();
  return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime(ms / 1000), ms % 1000);
}

Json end_json(const SocketAddress& end) {
  return {{"address", end.address.str()}, {"port", end.port}};
}

}  // namespace

Flows::Flows(Loop& loop, const Clock& clock, Deps deps)
    : loop_(loop),
      clock_(clock),
      deps_(std::move(deps)),
      new_connections_(deps_.conntrack),
      self_(std::make_shared<Flows*>(this)) {
  deps_.namespaces.attach(loop, [this](const state::Delta<model::ServedNetns>& delta) {
    for (const auto& change : delta.changes) {
      if (change.before) names_.erase_pod(*change.before);
    }
    for (const auto& change : delta.changes) {
      if (change.after) names_.set_pod(*change.after);
    }
  });
  deps_.inspect.attach(loop, [this](const Inspect& request, Reply<Json> reply) { answer(request, std::move(reply)); });
}

void Flows::start() {
  started_ = clock_.now();
  drops_ready_ = loop_.watch(deps_.drops.fd(), Loop::Ready::kRead, [this] { read_drops(); });
  count();
  count_timer_ = loop_.every(deps_.count_period, [this] { count(); });
}

void Flows::answer(const Inspect& request, Reply<Json> reply) {
  if (request.op == "conntrack.sync") return reply(sync_state());
  auto filter = parse_filter(request.args);
  if (!filter) return reply(std::unexpected(std::move(filter).error()));
  const auto shared = std::make_shared<Reply<Json>>(std::move(reply));
  if (request.op == "conntrack.list") {
    return with_services([=, this, filter = *filter] { (*shared)(list(filter, request.args)); });
  }
  if (request.op == "conntrack.flush") {
    return with_services([=, this, filter = *filter] { (*shared)(flush(filter)); });
  }
  if (request.op == "monitor.next") {
    return with_services([=, this, filter = *filter] { monitor(filter, request.args, std::move(*shared)); });
  }
  (*shared)(fail(Code::kInvalid, "no operation \"{}\"", request.op));
}

void Flows::with_services(std::function<void()> then) {
  deps_.services.call(loop_, {"service.list", Json::object()}, kServicesPatience,
                      [self = std::weak_ptr(self_), then = std::move(then)](const Result<Json>& list) {
                        const auto flows = self.lock();
                        if (!flows) return;
                        if (list) (*flows)->names_.set_services(*list);
                        then();
                      });
}

Json Flows::tell(const datapath::Connection& c) const {
  Json json{{"family", c.family == Family::kV4 ? "4" : "6"},
            {"protocol", protocol_name(c.protocol)},
            {"state", c.state},
            {"replied", c.answered},
            {"client", end_json(c.client)},
            {"server", end_json(c.server)},
            {"age_seconds", c.age.count()},
            {"expires_in_seconds", c.expires_in.count()},
            {"client_pod", names_.pod(c.client.address)},
            {"server_pod", names_.pod(c.to.address)},
            {"service", names_.service(c.server, c.protocol)}};
  if (c.translated) {
    json["from"] = end_json(c.from);
    json["to"] = end_json(c.to);
  }
  return json;
}

Result<Json> Flows::list(const Filter& filter, const Json& args) const {
  const auto cursor = args.find("cursor");
  const bool given = args.is_object() && cursor != args.end() && cursor->is_number_unsigned();
  Json items = Json::array();
  FL_LET(const auto next,
         deps_.conntrack.walk(given ? cursor->get<std::uint64_t>() : 0, [&](const datapath::Connection& connection) {
           if (filter.matches(connection, names_)) {
             items.push_back(tell(connection));
           }
           return items.size() < kPage;
         }));
  return Json{{"items", std::move(items)}, {"next", next ? Json(*next) : Json()}};
}

Result<Json> Flows::flush(const Filter& filter) {
  std::uint64_t ended = 0;
  FL_TRY(deps_.conntrack.walk(0, [&](const datapath::Connection& connection) {
    if (filter.matches(connection, names_) && deps_.conntrack.end(connection)) ++ended;
    return true;
  }));
  log::info(kModule, "connections were ended by request", {{"connections", ended}});
  return Json{{"ended", ended}};
}

Json Flows::tell(const datapath::Drop& drop) const {
  char device[IF_NAMESIZE] = {};
  return {{"reason", drop.reason},
          {"isolated_pod", names_.pod_at(drop.isolated)},
          {"direction", drop.to_pod ? "to-pod" : "from-pod"},
          {"pod", names_.pod_at(drop.ifindex)},
          {"ifindex", drop.ifindex},
          {"device", if_indextoname(drop.ifindex, device) != nullptr ? device : ""},
          {"protocol", drop.protocol == 0 ? "" : protocol_name(drop.protocol)},
          {"source", end_json(drop.source)},
          {"destination", end_json(drop.destination)},
          {"source_pod", names_.pod(drop.source.address)},
          {"destination_pod", names_.pod(drop.destination.address)},
          {"service", names_.service(drop.destination, drop.protocol)},
          {"packets", drop.packets},
          {"length", drop.length}};
}

Json Flows::seen_since(const Filter& filter, std::uint64_t after) const {
  Json items = Json::array();
  for (std::uint64_t at = std::max(after, first_); at < first_ + seen_.size(); ++at) {
    const Seen& seen = seen_[at - first_];
    std::visit(
        [&](const auto& what) {
          if (!filter.matches(what, names_)) return;
          Json json = tell(what);
          json["time"] = format_time(seen.at);
          json["kind"] = std::is_same_v<std::decay_t<decltype(what)>, datapath::Drop> ? "drop" : "flow";
          items.push_back(std::move(json));
        },
        seen.what);
  }
  return {{"items", std::move(items)}, {"next", first_ + seen_.size()}, {"lost", after < first_ ? first_ - after : 0}};
}

void Flows::monitor(Filter filter, Json args, Reply<Json> reply) {
  const auto given = args.is_object() ? args.find("after") : args.end();
  const bool resumed = args.is_object() && given != args.end() && given->is_number_unsigned();
  keep_looking();
  if (!resumed) look_for_connections();  // what began before is no news to who begins to monitor
  const std::uint64_t after = resumed ? given->get<std::uint64_t>() : first_ + seen_.size();
  Json now = seen_since(filter, after);
  if (!now["items"].empty() || now["lost"] != 0) return reply(std::move(now));
  waiting_.push_back({std::move(filter), Json(after), std::move(reply), {}});
  const auto at = std::prev(waiting_.end());
  at->timer = loop_.after(deps_.patience, [this, at] {
    Waiting done = std::move(*at);
    waiting_.erase(at);
    done.reply(seen_since(done.filter, done.args.get<std::uint64_t>()));
  });
}

template <class What>
void Flows::note(const What& what) {
  seen_.push_back({what, clock_.wall()});
  if (seen_.size() <= kSeenKept) return;
  seen_.pop_front();
  ++first_;
}

void Flows::read_drops() {
  const auto read = deps_.drops.read([&](const datapath::Drop& drop) { note(drop); });
  if (!read) {
    log::warn(kModule, "drops could not be read", {{"error", read.error()}});
    drops_ready_.cancel();
    return;
  }
  tell_waiting();
}

// Somebody monitors: what begins from now on is noted.
void Flows::keep_looking() {
  const bool looking = monitored_ != TimePoint() && clock_.now() - monitored_ < kMonitorRests;
  monitored_ = clock_.now();
  if (looking) return;
  new_connections_.forget();
  look_for_connections();
  look_timer_ = loop_.every(deps_.look_period, [this] { look_for_connections(); });
}

void Flows::look_for_connections() {
  if (clock_.now() - monitored_ >= kMonitorRests) {
    new_connections_.forget();
    look_timer_.cancel();
    return;
  }
  const auto looked = new_connections_.look([this](const datapath::Connection& connection) { note(connection); });
  if (!looked) log::warn(kModule, "connections could not be read", {{"error", looked.error()}});
  tell_waiting();
}

void Flows::tell_waiting() {
  for (auto at = waiting_.begin(); at != waiting_.end();) {
    Json told = seen_since(at->filter, at->args.get<std::uint64_t>());
    if (told["items"].empty()) {
      ++at;
      continue;
    }
    at->reply(std::move(told));
    at = waiting_.erase(at);
  }
}

void Flows::count() {
  const auto usage = deps_.conntrack.usage();
  unread_ = usage ? "" : usage.error().message();
  if (!usage) {
    log::warn(kModule, "connections could not be counted", {{"error", usage.error()}});
    return;
  }
  usage_ = *usage;
  // In new maps nothing was swept before we began.
  usage_.last_sweep =
      std::min(usage_.last_sweep, std::chrono::duration_cast<std::chrono::seconds>(clock_.now() - started_));
  for (const auto& [family, table] : {std::pair{"4", usage_.v4}, {"6", usage_.v6}}) {
    const auto set = [&, &table = table, &family = family](const char* name, const char* help, std::uint64_t value) {
      metrics::gauge(deps_.registry, name, help, {{"family", family}}).Set(static_cast<double>(value));
    };
    set("fairlead_conntrack_entries", "Connections tracked.", table.used);
    set("fairlead_conntrack_unreplied", "Connections tracked that nobody has answered.", table.unreplied);
    set("fairlead_conntrack_capacity", "Connections that can be tracked.", table.capacity);
  }
  refused_lately_ = usage_.counters["refused"] - counted_["refused"];
  if (counted_["counted"]++ == 0) refused_lately_ = 0;  // what was before us is no news
  for (const auto& [event, count] : usage_.counters) {
    metrics::counter(deps_.registry, "fairlead_conntrack_events_total", "What happened to connections.",
                     {{"event", event}})
        .Increment(static_cast<double>(count - std::exchange(counted_[event], count)));
  }
  metrics::gauge(deps_.registry, "fairlead_conntrack_sweep_age_seconds",
                 "Time since the part of the tables that was swept longest ago.")
      .Set(static_cast<double>(usage_.last_sweep.count()));
}

Json Flows::sync_state() const {
  Json failing = Json::object();
  if (!unread_.empty()) failing["conntrack"] = unread_;
  if (refused_lately_ != 0) {
    failing["conntrack"] = fmt::format("full: {} new connections were refused in the last {}", refused_lately_,
                                       std::chrono::duration_cast<std::chrono::seconds>(deps_.count_period));
  }
  if (usage_.last_sweep > kSweepPatience) {
    failing["conntrack sweep"] =
        fmt::format("no sweep for {}: expired connections stay until the agent is restarted", usage_.last_sweep);
  }
  return {{"synced", true},
          {"failing", std::move(failing)},
          {"maps",
           {{{"map", "ct4_slots"}, {"used", usage_.v4.used}, {"capacity", usage_.v4.capacity}},
            {{"map", "ct6_slots"}, {"used", usage_.v6.used}, {"capacity", usage_.v6.capacity}}}},
          {"connections", usage_.v4.used + usage_.v6.used},
          {"unreplied", usage_.v4.unreplied + usage_.v6.unreplied}};
}

}  // namespace fairlead::flows
