// SPDX-License-Identifier: Apache-2.0
// StreamServer: what the agent's two servers share: connections that carry one request and one answer each, none of
// which can harm the others.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "agent/base/loop.h"
#include "agent/base/unique_fd.h"

namespace fairlead::server {

struct StreamLimits {
  std::size_t clients = 64;                     // more wait in the socket's backlog
  Duration patience = std::chrono::seconds(5);  // for a client's request, and for it to read the answer
};

// Owner: a server. Thread: its loop's. Cost: a few system calls a request, no thread. Destroying it ends every
// connection.
class StreamServer {
 public:
  using ClientId = std::uint64_t;
  // Called with all that came so far, each time more came, until hold(), answer() or the end of the client's patience.
  using OnData = std::function<void(ClientId, std::string& received)>;

  StreamServer(Loop& loop, StreamLimits limits, OnData on_data);
  StreamServer(const StreamServer&) = delete;
  StreamServer& operator=(const StreamServer&) = delete;

  // Takes a socket that is bound, listens, and does not block.
  void listen(UniqueFd listener);
  int listener() const { return listener_.get(); }

  // The request is whole: reads no more, and waits for its answer() without limit.
  void hold(ClientId id);
  // Sends `bytes` and closes.
  void answer(ClientId id, std::string bytes);

 private:
  struct Client {
    UniqueFd fd;
    std::string received;
    std::string answer;
    std::size_t sent = 0;  // bytes of `answer`
    Subscription io;       // ends before `fd` closes
    Subscription timer;    // ends a client that takes too long
  };

  void accept_on();
  void accept_all();
  void read_from(ClientId id);
  void write_to(ClientId id);
  void end(ClientId id);

  Loop& loop_;
  StreamLimits limits_;
  OnData on_data_;
  UniqueFd listener_;
  Subscription accepting_;
  Subscription pause_;  // descriptors ran out: accepting goes on after a while
  std::map<ClientId, Client> clients_;
  ClientId next_id_ = 0;
};

}  // namespace fairlead::server
