// SPDX-License-Identifier: Apache-2.0
// Flows: the domain that tells what passes: tracked connections, drops as they happen, and how full the tables are.
#pragma once

#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <variant>

#include "agent/base/clock.h"
#include "agent/base/local_protocol.h"
#include "agent/base/loop.h"
#include "agent/base/metrics.h"
#include "agent/base/request.h"
#include "agent/datapath/conntrack.h"
#include "agent/datapath/drop_events.h"
#include "agent/flows/filter.h"
#include "agent/flows/names.h"
#include "agent/flows/new_connections.h"
#include "agent/state/table.h"

namespace fairlead::flows {

// Owner: Agent. Thread: its loop. Keeps the latest thousands of drops, and of connections that begin while
// somebody monitors; connections are read where they are. Cost: a
// page of connections about 20 ms, counting them each half minute 10 ns a slot ever used. Counts:
// fairlead_conntrack_entries{family}, _unreplied{family}, _capacity{family}, fairlead_conntrack_events_total{event}
// (created, ended, reclaimed, refused, …), fairlead_conntrack_sweep_age_seconds.
//
// Requests (op, args → result); FILTER as parse_filter() reads it:
//   conntrack.list   FILTER and {cursor: number, absent or null: from the start} → {items: [connection], next: cursor
//                    or null: the end}
//   conntrack.flush  FILTER → {ended: number}
//   monitor.next     FILTER and {after: number, absent: from now on} → {items: [drop or flow, as `kind` says], next:
//                    number, lost: number}; waits for the first up to some seconds
//   conntrack.sync   {synced: true, maps, failing: {table: why it is in trouble}}, as agent/observe wants it
class Flows {
 public:
  struct Deps {
    datapath::Conntrack& conntrack;
    datapath::DropEvents& drops;
    state::TableReader<model::ServedNetns> namespaces;
    Caller<Inspect, Json> services;  // answers service.list
    Responder<Inspect, Json> inspect;
    metrics::Registry& registry;
    Duration count_period = std::chrono::seconds(30);
    Duration patience = std::chrono::seconds(4);  // how long monitor.next waits; less than any client's deadline
    Duration look_period = std::chrono::milliseconds(200);  // for new connections, while somebody monitors
  };

  Flows(Loop& loop, const Clock& clock, Deps deps);
  // Begins to count and to read drops. On the loop, or before it runs.
  void start();

 private:
  struct Waiting {
    Filter filter;
    Json args;
    Reply<Json> reply;
    Subscription timer;
  };

  void answer(const Inspect& request, Reply<Json> reply);
  // Runs `then` once the names of Services are fresh; with those that there are where nobody tells them.
  void with_services(std::function<void()> then);
  Result<Json> list(const Filter& filter, const Json& args) const;
  Result<Json> flush(const Filter& filter);
  Json tell(const datapath::Connection& connection) const;
  Json tell(const datapath::Drop& drop) const;
  void monitor(Filter filter, Json args, Reply<Json> reply);
  // What was seen from `after` on.
  Json seen_since(const Filter& filter, std::uint64_t after) const;
  void read_drops();
  void keep_looking();
  void look_for_connections();
  template <class What>
  void note(const What& what);
  // Answers who waits for what has been noted.
  void tell_waiting();
  void count();
  Json sync_state() const;

  struct Seen {
    std::variant<datapath::Drop, datapath::Connection> what;
    WallTime at;
  };

  Loop& loop_;
  const Clock& clock_;
  Deps deps_;
  Names names_;
  std::deque<Seen> seen_;
  std::uint64_t first_ = 0;  // number of the oldest in seen_
  std::list<Waiting> waiting_;
  NewConnections new_connections_;
  TimePoint monitored_;  // asked about last
  Subscription look_timer_;
  datapath::ConntrackUsage usage_;
  std::map<std::string, std::uint64_t> counted_;  // what the metrics hold already
  std::uint64_t refused_lately_ = 0;              // in the last period
  TimePoint started_;
  std::string unread_;  // why tables could not be counted
  Subscription drops_ready_;
  Subscription count_timer_;
  std::shared_ptr<Flows*> self_;  // for answers that come after our end
};

}  // namespace fairlead::flows
