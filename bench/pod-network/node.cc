// SPDX-License-Identifier: Apache-2.0
#include "bench/pod-network/node.h"

#include <utility>

#include "test/kit/netns.h"

namespace fairlead::bench {

Result<std::unique_ptr<Node>> Node::start() {
  std::unique_ptr<Node> node(new Node);
  FL_LET(auto root, datapath::BpfRoot::open(testkit::bpffs() + "/fairlead"));
  node->root_.emplace(std::move(root));
  FL_LET(node->programs_, datapath::BpfPodPrograms::load(*node->root_));
  auto [caller, responder] = make_request<Inspect, Json>();
  node->caller_ = caller;
  FL_LET(const auto ranges, parse_cidr_list("10.1.0.0/22,fd00:1::/64"));
  node->network_ = std::make_unique<network::Network>(
      node->loop_, node->clock_,
      network::Network::Deps{
          .config = {.pod_cidrs = ranges, .node_ips = {}, .state_dir = testkit::folder(), .run_dir = testkit::folder()},
          .programs = *node->programs_,
          .sockets = node->sockets_,
          .namespaces = node->namespaces_.writer("network"),
          .host_ports = node->host_ports_.writer("network"),
          .requests = std::move(responder),
          .registry = node->registry_});
  FL_TRY(node->network_->start());
  node->server_ = std::make_unique<server::LocalServer>(node->server_loop_, testkit::folder() + "/agent.sock",
                                                        server::Routes{{"cni.", {node->caller_}}});
  FL_TRY(node->server_->start());
  node->thread_ = std::jthread([loop = &node->loop_] { loop->run(); });
  node->server_thread_ = std::jthread([loop = &node->server_loop_] { loop->run(); });
  return node;
}

Node::~Node() {
  for (auto& [loop, thread] : {std::pair(&server_loop_, &server_thread_), {&loop_, &thread_}}) {
    loop->stop();
    if (thread->joinable()) thread->join();
  }
}

Result<Json> Node::ask(const std::string& op, const Json& args) {
  return caller_.call_sync({op, args}, std::chrono::seconds(10));
}

}  // namespace fairlead::bench
