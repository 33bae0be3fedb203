// SPDX-License-Identifier: Apache-2.0
// LocalServer: the agent's unix socket (agent/base/local_protocol.h): takes requests of fairlead-cni and fairleadctl to
// the module that answers them.
#pragma once

#include <sys/types.h>

#include <map>
#include <memory>
#include <string>

#include "agent/base/local_protocol.h"
#include "agent/base/request.h"
#include "agent/server/stream_server.h"

namespace fairlead::server {

// Who answers, and how long a client is kept waiting for it.
struct Route {
  Caller<Inspect, Json> module;
  Duration deadline = std::chrono::seconds(10);
};

// By operation ("status"), or by prefix up to and with its last dot ("service."); the operation wins.
using Routes = std::map<std::string, Route>;

struct LocalServerLimits {
  StreamLimits streams;
  std::size_t request_bytes = 1U << 20;  // of one request
};

// Owner: Agent. Thread: its loop's. The socket is the user's own (0600, in a folder made 0700): who may open it may
// do all that the agent may. One connection carries one request; what a client does wrong ends its connection and
// nothing else.
class LocalServer {
 public:
  LocalServer(Loop& loop, std::string path, Routes routes, LocalServerLimits limits = {});
  ~LocalServer();  // ends every connection and takes the socket away
  LocalServer(const LocalServer&) = delete;
  LocalServer& operator=(const LocalServer&) = delete;

  // Listens. A socket that nobody serves any more is replaced; kExists: another agent serves it.
  Result<> start();

 private:
  Result<UniqueFd> bind_socket();
  void on_data(StreamServer::ClientId id, std::string& received);
  void dispatch(StreamServer::ClientId id, const Json& request);
  void answer(StreamServer::ClientId id, const Result<Json>& result);

  Loop& loop_;
  std::string path_;
  Routes routes_;
  std::size_t request_bytes_;
  ino_t inode_ = 0;  // of the socket we made: a successor's is not ours to remove
  StreamServer streams_;
  std::shared_ptr<LocalServer*> self_;  // for answers that come after our end
};

}  // namespace fairlead::server
