// SPDX-License-Identifier: Apache-2.0
// A node with its pod network in namespaces of the test, spoken to by the real CNI plugin.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "agent/base/local_protocol.h"
#include "agent/base/request.h"
#include "agent/base/unique_fd.h"
#include "agent/datapath/pod_programs.h"
#include "agent/network/network.h"
#include "agent/server/local_server.h"
#include "agent/state/table.h"
#include "test/kit/netns.h"

namespace fairlead::network {

// Remembers who is admitted. Survives its node's restarts, as the pinned map does. One thread: the domain's loop.
class FakeSocketClients final : public datapath::SocketClients {
 public:
  Result<> admit(std::uint64_t cookie, const std::vector<IpAddress>& addresses) override {
    clients[cookie] = addresses;
    return {};
  }
  Result<> dismiss(std::uint64_t cookie) override {
    clients.erase(cookie);
    return {};
  }
  Result<std::vector<std::uint64_t>> admitted() override {
    std::vector<std::uint64_t> all;
    for (const auto& [cookie, addresses] : clients) all.push_back(cookie);
    return all;
  }
  std::map<std::uint64_t, std::vector<IpAddress>> clients;
};

// The real programs, watched: what state the device is in when its filters come, and a step that fails on demand.
class WatchedPrograms final : public datapath::PodPrograms {
 public:
  explicit WatchedPrograms(datapath::PodPrograms& inner) : inner_(inner) {}
  Result<> attach(std::uint32_t ifindex) override {
    auto socket = netlink::Socket::open().value();
    const std::vector<netlink::Link> links = socket.links().value();
    for (const netlink::Link& link : links) {
      if (link.ifindex == ifindex && link.up) attached_while_up = true;
    }
    if (fail_attach) return fail(Code::kSystem, "attach fails, as the test wants");
    return inner_.attach(ifindex);
  }
  Result<bool> attached(std::uint32_t ifindex) override { return inner_.attached(ifindex); }
  Result<> upsert(const datapath::PodEndpoint& endpoint) override { return inner_.upsert(endpoint); }
  Result<std::uint32_t> new_generation() override { return inner_.new_generation(); }
  Result<> erase(std::uint32_t ifindex) override { return inner_.erase(ifindex); }
  std::vector<datapath::PodEndpoint> endpoints() const override { return inner_.endpoints(); }
  Result<std::vector<datapath::VerdictCount>> counters() const override { return inner_.counters(); }

  bool attached_while_up = false;
  bool fail_attach = false;

 private:
  datapath::PodPrograms& inner_;
};

// The agent's side: programs, domain, loop and socket. Destroying it leaves pods and pins alone, as a dead agent does.
class Node {
 public:
  // Without `cidrs` those of `node_table` count. `waits_for_pods`: an ADD waits for its pod in `pod_table`; `isolates`:
  // for its rules in `policy_table`. `state_dir`: the journal's, where it is not the test's folder. `fail_attach`: as
  // WatchedPrograms, from the start.
  Node(const std::string& cidrs, FakeSocketClients& sockets, bool waits_for_pods = false,
       const std::string& state_dir = {}, bool fail_attach = false, bool isolates = false);
  ~Node();

  // As a request from the agent's own server.
  Result<Json> ask(const std::string& op, const Json& args);
  const Caller<Inspect, Json>& requests() const { return caller_; }
  std::uint64_t packets(const std::string& verdict);
  const datapath::BpfRoot& root() const { return *root_; }

  ManualClock clock;
  state::Table<model::Node> node_table{{"api"}};
  state::Table<model::Pod> pod_table{{"api"}};
  state::Table<model::PodPolicy> policy_table{{"policy"}};
  std::unique_ptr<datapath::BpfPodPrograms> programs;
  std::unique_ptr<WatchedPrograms> watched;
  Result<> started;
  state::Table<model::ServedNetns> namespaces{{"network"}};
  state::Table<model::HostPort> host_ports{{"network"}};
  state::Table<model::Service> service_table{{"api"}};

 private:
  std::optional<datapath::BpfRoot> root_;
  prometheus::Registry registry_;
  Loop loop_;
  std::unique_ptr<Network> network_;
  Caller<Inspect, Json> caller_;
  std::unique_ptr<server::LocalServer> server_;
  std::jthread thread_;
};

// What a run of fairlead-cni printed.
struct PluginResult {
  int exit_code = 0;
  Json output;
};
PluginResult run_plugin(const std::string& command, const std::string& container, const std::string& netns,
                        const std::string& configuration = {});
// A pod that the plugin gave its network.
struct AttachedPod {
  std::string container;
  testkit::PodNetns netns;
  std::vector<IpAddress> addresses;  // IPv4, IPv6, as far as the node has ranges
};
// Fails the test where ADD does.
AttachedPod attach_pod(const std::string& container);
// What run_plugin() gives it without one: version 1.0.0, the agent in the test's folder.
Json plugin_configuration();

// A TCP connection between two namespaces (nullptr: the node), made and kept.
struct Connection {
  UniqueFd client;
  UniqueFd server;
  IpAddress client_seen;  // the client's address, as the server sees it
  // One message each way.
  bool works() const;
};
std::optional<Connection> connect_tcp(const testkit::PodNetns* from, const testkit::PodNetns* to,
                                      const IpAddress& address);
// One datagram there and its answer back.
bool exchange_udp(const testkit::PodNetns* from, const testkit::PodNetns* to, const IpAddress& address);
// Sends a frame as it is, out of a pod's eth0.
void send_frame(const testkit::PodNetns& from, const std::vector<std::uint8_t>& frame);

}  // namespace fairlead::network
