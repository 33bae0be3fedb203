// SPDX-License-Identifier: Apache-2.0
#include "agent/agent.h"

#include "agent/base/log.h"
#include "agent/base/version.h"
#include "agent/server/notify.h"

namespace fairlead {

Agent::~Agent() {
  for (LoopThread* thread : threads_) thread->join();
}

Result<> Agent::build() {
  // Before any other thread is, so that all inherit the blocked signals.
  FL_LET(auto signals, StopSignals::create(main_loop_, [this](int) { main_loop_.stop(); }));
  signals_.emplace(std::move(signals));
  FL_TRY(load_sockets());
  FL_TRY(build_source());
  FL_TRY(build_services());
  start_services();
  FL_TRY(build_sockets());
  FL_LET(pod_programs_, datapath::BpfPodPrograms::load(*bpf_root_, capacities()));
  FL_TRY(build_policy());
  FL_TRY(build_network());
  FL_TRY(build_routing());
  FL_TRY(build_flows());
  if (runs_pods()) FL_TRY(build_pods());
  return build_front();
}

Result<> Agent::run() {
  FL_TRY(start());
  log::info("agent", "running",
            {{"version", version()}, {"node", config_.node_name}, {"mode", to_string(config_.mode)}});
  main_loop_.run();
  log::info("agent", "stopping");
  stop();
  return {};
}

void Agent::start_services() {
  if (manifests_) manifests_->start();
  if (api_) api_->start();
  edge_.start();
  services_thread_.start();
}

// What is on the loop of a thread that runs already starts there.
Result<> Agent::start() {
  FL_TRY(local_server_->start());  // the CNI plugin may ask from now on
  if (node_reporter_) edge_.loop().post([this] { node_reporter_->start(); });
  if (pods_) pods_->start();
  flows_->start();
  hub_->start();
  for (LoopThread* thread :
       {&pods_thread_, &network_thread_, &policy_thread_, &routing_thread_, &sockets_thread_, &flows_thread_}) {
    thread->start();
  }
  return {};
}

void Agent::stop() {
  if (const auto told = server::notify_systemd("STOPPING=1"); !told) {
    log::warn("agent", "systemd was not told", {{"error", told.error()}});
  }
  http_servers_.clear();
  local_server_.reset();
  for (LoopThread* thread : threads_) thread->join();
}

}  // namespace fairlead
