// SPDX-License-Identifier: Apache-2.0
// World: the BPF programs and the model side by side; each step happens to both.
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "agent/datapath/bpf_load_balancer.h"
#include "agent/datapath/bpf_policy_maps.h"
#include "test/bpf/model_stamps.h"
#include "test/kit/data_path.h"
#include "test/model/model.h"

namespace fairlead::model {

// Something that happens: a packet, a change of Services or of policy, or time.
struct Step {
  enum class Kind { kFromPod, kHostToPod, kApply, kRemove, kPolicy, kBind, kTime };
  Kind kind = Kind::kFromPod;
  std::size_t pod = 0;  // whose device the packet is on; who is isolated
  Bytes frame;
  bool from_node = true;  // kHostToPod: the node itself sends it; else another device brought it
  std::string service;
  datapath::ServiceEntry entry;
  std::chrono::seconds time{0};
  datapath::PolicyContents policy{};                        // all that the maps hold from now on
  datapath::RuleSetId ingress_rules = 0, egress_rules = 0;  // of the pod, from now on
};
std::string words(const Step& step);

// Owner and thread: the test, whose process is in namespaces of its own.
class World {
 public:
  static Result<std::unique_ptr<World>> open();

  // As it was when it was opened: the pods, no Service, no connection.
  Result<> reset();
  // How the two differ over the step; "" where they do not, or where it was held up.
  std::string take(const Step& step);
  // How the packets since the last reset were counted otherwise than the model did; "" where they were not.
  std::string compare_counters() const;
  // Whether what came since the last reset cannot tell which of several choices was made, as where a packet is dropped
  // after a backend was chosen for its connection: from there on the model does not know.
  bool lost_track() const { return lost_track_; }
  // Whether the last step took so long (the process was stopped, or the machine busy) that real time mattered: then
  // nothing is known of it, nor of what follows.
  bool held_up() const { return held_up_; }
  // What came of the last packet.
  const Outcome& outcome() const { return outcome_; }

  // The last has a device with filters, but no endpoint.
  const std::vector<testkit::Pod>& pods() const { return pods_; }

 private:
  static constexpr std::uint8_t kPods = 5;
  static constexpr Time kMargin = std::chrono::milliseconds(800);  // of time-outs, around now

  World() = default;
  std::string take_in_time(const Step& step);
  std::string take_packet(const Step& step);
  std::string take_change(const Step& step);
  const Future& counted_one(const std::vector<const Future*>& futures) const;
  Result<> bind(std::size_t pod, datapath::RuleSetId ingress, datapath::RuleSetId egress);
  Result<> set_policy(const datapath::PolicyContents& contents);
  // Time passes for both: at least so much, and more until nothing ends right then.
  Result<> pass(Time time);
  Result<std::map<std::string, std::uint64_t>> counters() const;

  std::unique_ptr<testkit::DataPath> path_;
  std::unique_ptr<datapath::BpfLoadBalancer> balancer_;
  std::unique_ptr<datapath::BpfPolicyMaps> policy_;
  std::vector<testkit::Pod> pods_;
  std::unique_ptr<Stamps> stamps_;
  std::unique_ptr<Model> model_;
  std::set<std::string> services_;
  Outcome outcome_;
  bool lost_track_ = false;
  bool held_up_ = false;
  std::map<std::string, std::uint64_t> counted_;   // by the programs, before the last reset
  std::map<std::string, std::uint64_t> expected_;  // since
};

}  // namespace fairlead::model
