// SPDX-License-Identifier: Apache-2.0
// AgentConfiguration: all that a user can set, from one file and from flags. The table in fields.cc is the one place
// that knows a setting's names, default, check and help.
#pragma once

#include <chrono>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/balancing.h"
#include "agent/base/ip.h"
#include "agent/base/log.h"
#include "agent/base/result.h"
#include "agent/config/conntrack_settings.h"
#include "agent/config/host_facts.h"
#include "agent/config/path_settings.h"

namespace fairlead::config {

using Json = nlohmann::json;

enum class Mode { kNode, kDataplane };
std::string_view to_string(Mode mode);

// Where no API server gives ranges, and no Node manifest.
inline constexpr auto kDefaultPodCidr = "10.244.0.0/24";

struct AgentConfiguration {
  Mode mode = Mode::kNode;
  std::string manifests;        // folder; empty: objects come from an API server
  std::string kubeconfig;       // file; empty, without manifests: in-cluster credentials
  std::string static_pod_path;  // folder of pods beside those of the API server; empty: none
  std::string node_name;
  std::vector<IpAddress> node_ips;  // at most one of a family, the first is primary
  std::vector<Cidr> pod_cidrs;      // empty: those of the Node object, or kDefaultPodCidr where manifests have none
  std::vector<Cidr> service_cidrs;
  std::map<std::string, std::string> node_labels;
  Balancing load_balancing = Balancing::kRandom;  // of Services that ask for none
  std::string proxy_config;                       // file that was read besides; empty: none
  std::vector<IpAddress> cluster_dns;             // empty: pods of policy ClusterFirst use the node's resolver
  std::string cluster_domain = "cluster.local";
  std::string resolv_conf = "/etc/resolv.conf";  // of the node; empty: pods of policy Default look nothing up
  std::string runtime_endpoint = "unix:///run/containerd/containerd.sock";
  std::string bpf_root = "/sys/fs/bpf/fairlead";
  std::string cgroup_root;  // absolute, inside a cgroup2 mount
  std::string
      cgroup_prefix;  // cgroup_root as the runtime names it, in front of "/kubepods": "" or "/name"; follows from it
  std::string state_dir = "/var/lib/fairlead";
  std::string run_dir = "/run/fairlead";
  std::string log_root = "/var/log/pods";
  std::string cni_bin_dir = "/opt/cni/bin";
  std::string cni_conf_dir = "/etc/cni/net.d";
  std::optional<SocketAddress> metrics_bind_address;  // nullopt: not served
  std::optional<SocketAddress> healthz_bind_address;
  log::Level log_level = log::Level::kInfo;
  log::Format log_format = log::Format::kText;
  std::chrono::milliseconds drain_delay{100};          // from "terminating in the maps" to SIGTERM
  std::chrono::milliseconds shutdown_timeout{10'000};  // for the agent's own orderly stop
  std::uint32_t max_services = 262'144;                // Service ports of each family
  std::uint32_t max_backends = 262'144;                // of each family
  ConntrackSettings conntrack;
  PathSettings paths;                       // to other nodes and the world
  std::vector<std::string> without_effect;  // fields of kube-proxy's file, "FILE:LINE: field", to be told in the log

  AgentConfiguration();
  std::string socket_path() const { return run_dir + "/agent.sock"; }
  bool operator==(const AgentConfiguration&) const = default;
};

// What the user said: flags by name ("pod-cidr"), and the path of a file or empty.
struct Settings {
  std::string config_file;
  std::map<std::string, std::string> flags;
  bool needs_source = true;  // to run, a source of objects is needed; to install or clean up, none
};

// Reads the file, puts the flags over it, fills in what the host tells and checks the whole. Errors are kInvalid and
// begin with where the value stands ("agent.yaml:7: podCIDR: …" or "--pod-cidr: …").
Result<AgentConfiguration> load(const Settings& settings, const HostFacts& host);

// As load(), where `text` is what the file says.
Result<AgentConfiguration> load_text(const std::string& text, const Settings& settings, const HostFacts& host);

// The effective configuration as a document that --config would read.
Json to_json(const AgentConfiguration& configuration);

}  // namespace fairlead::config
