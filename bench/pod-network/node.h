// SPDX-License-Identifier: Apache-2.0
// Node: the pod network of a node in the benchmark's own namespace: programs, domain and socket, on a loop each for the
// domain and for the socket, as the agent has them.
#pragma once

#include <memory>
#include <optional>
#include <thread>

#include "agent/base/local_protocol.h"
#include "agent/base/request.h"
#include "agent/datapath/pod_programs.h"
#include "agent/network/network.h"
#include "agent/server/local_server.h"
#include "agent/state/table.h"

namespace fairlead::bench {

// Owner: the benchmark's main. Its socket is testkit::folder()/agent.sock.
class Node {
 public:
  static Result<std::unique_ptr<Node>> start();
  ~Node();

  // As a request that came over the socket.
  Result<Json> ask(const std::string& op, const Json& args);

 private:
  // Nothing here connects by a socket that a hook would look at.
  class NoSockets final : public datapath::SocketClients {
   public:
    Result<> admit(std::uint64_t, const std::vector<IpAddress>&) override { return {}; }
    Result<> dismiss(std::uint64_t) override { return {}; }
    Result<std::vector<std::uint64_t>> admitted() override { return std::vector<std::uint64_t>(); }
  };

  Node() = default;

  SystemClock clock_;
  metrics::Registry registry_;
  state::Table<model::ServedNetns> namespaces_{{"network"}};
  state::Table<model::HostPort> host_ports_{{"network"}};
  NoSockets sockets_;
  Loop loop_;
  std::optional<datapath::BpfRoot> root_;
  std::unique_ptr<datapath::BpfPodPrograms> programs_;
  Caller<Inspect, Json> caller_;
  std::unique_ptr<network::Network> network_;
  Loop server_loop_;
  std::unique_ptr<server::LocalServer> server_;
  std::jthread thread_;
  std::jthread server_thread_;
};

}  // namespace fairlead::bench
