// SPDX-License-Identifier: Apache-2.0
// Random clusters for tests of NetworkPolicy: labels, named ports and policies that meet one another often, and which
// parts of the API occurred in them.
#pragma once

#include <k8s/networkpolicy.pb.h>

#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "test/model/policy.h"

namespace fairlead::model {

// A port to ask about.
struct ProbedPort {
  const char* name;  // "TCP", …
  std::uint8_t protocol;
  std::uint16_t number;
};
inline constexpr ProbedPort kProbedPorts[] = {{"TCP", 6, 80},     {"TCP", 6, 8080}, {"TCP", 6, 443},
                                              {"UDP", 17, 53},    {"UDP", 17, 80},  {"UDP", 17, 8085},
                                              {"SCTP", 132, 443}, {"TCP", 6, 65535}};

inline const std::vector<std::string> kProbedNamespaces{"blue", "green", "red"};

// An ipBlock: its CIDR, and what is excepted.
using Blocks = std::vector<std::pair<std::string, std::vector<std::string>>>;
// Around the addresses 10.0.1.0/24, 10.0.2.0/24, fd00::/16, 192.0.2.0/24 and 2001:db8::/32.
extern const Blocks kBlocks;

// Everything random comes from one seed.
class PolicyGenerator {
 public:
  explicit PolicyGenerator(unsigned seed, Blocks blocks = kBlocks) : random_(seed), blocks_(std::move(blocks)) {}

  std::size_t below(std::size_t limit) { return std::uniform_int_distribution<std::size_t>(0, limit - 1)(random_); }
  bool chance(unsigned percent) { return below(100) < percent; }
  const auto& pick(const auto& values) { return values[below(std::size(values))]; }

  std::map<std::string, std::string> labels();
  std::vector<PolicyWorld::Port> named_ports();
  // `key`: "namespace/name". Valid, as the API server's rules say.
  k8s::NetworkPolicy policy(const std::string& key);

 private:
  k8s::LabelSelector selector();
  k8s::NetworkPolicyPeer peer();
  k8s::NetworkPolicyPort port();

  std::mt19937 random_;
  Blocks blocks_;
};

// How often each part of the API occurred. Owner: the test.
class Coverage {
 public:
  void count(const k8s::NetworkPolicy& policy);
  void count(const std::string& part) { ++counts_[part]; }
  // The parts that a test of all of NetworkPolicy must have met and did not.
  std::vector<std::string> missing() const;
  const std::map<std::string, std::size_t>& counts() const { return counts_; }

 private:
  void count_ports(const auto& rule);
  void count_peer(const k8s::NetworkPolicyPeer& peer, const std::string& direction);
  void count_selector(const k8s::LabelSelector& selector);
  std::map<std::string, std::size_t> counts_;
};

}  // namespace fairlead::model
