// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/pod_dns.h"

#include <k8s/pod.pb.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/fmt/ranges.h>

#include <algorithm>
#include <sstream>

namespace fairlead::pods {
namespace {

// Kubernetes' own limits; resolvers take no more.
constexpr std::size_t kMaxServers = 3;
constexpr std::size_t kMaxSearches = 32;
constexpr std::size_t kMaxSearchLine = 2048;  // characters, spaces between the paths included
constexpr std::size_t kMaxSearchPath = 253;

constexpr auto kClusterOptions = "ndots:5";  // so that "service.namespace" is looked up in the cluster first

enum class Base { kNone, kCluster, kNode };

Base base_of(const k8s::PodSpec& spec) {
  if (spec.dnspolicy() == "None") return Base::kNone;
  if (spec.dnspolicy() == "Default") return Base::kNode;
  // On the node's network only ClusterFirstWithHostNet says that the cluster's names are meant.
  return spec.hostnetwork() && spec.dnspolicy() != "ClusterFirstWithHostNet" ? Base::kNode : Base::kCluster;
}

std::string name_of(const std::string& option) {
  return option.substr(0, option.find(':'));
}

// An option replaces the one of its name.
void set_option(std::vector<std::string>& options, const std::string& option) {
  const auto at = std::ranges::find(options, name_of(option), name_of);
  if (at == options.end()) {
    options.push_back(option);
  } else {
    *at = option;
  }
}

void append_new(std::vector<std::string>& list, const std::string& value) {
  if (std::ranges::find(list, value) == list.end()) list.push_back(value);
}

std::size_t line_length(const std::vector<std::string>& words) {
  return fmt::format("{}", fmt::join(words, " ")).size();
}

Resolver of_cluster(const k8s::Pod& pod, const DnsSettings& settings, const Resolver& node) {
  Resolver out;
  for (const IpAddress& server : settings.cluster_servers) out.servers.push_back(server.str());
  if (const std::string& domain = settings.cluster_domain; !domain.empty()) {
    append_new(out.searches, pod.metadata().namespace_() + ".svc." + domain);
    append_new(out.searches, "svc." + domain);
    append_new(out.searches, domain);
  }
  for (const std::string& search : node.searches) append_new(out.searches, search);
  out.options = {kClusterOptions};
  return out;
}

// Where no file of the node's counts: a resolver on this very machine, which no pod has.
Resolver of_nowhere(const std::vector<IpAddress>& node_ips) {
  Resolver out{.servers = {}, .searches = {"."}, .options = {}};
  for (const IpAddress& ip : node_ips) append_new(out.servers, ip.is_v4() ? "127.0.0.1" : "::1");
  if (out.servers.empty()) out.servers = {"127.0.0.1"};
  return out;
}

Warning no_cluster_dns(const k8s::Pod& pod) {
  const auto& meta = pod.metadata();
  return {"MissingClusterDNS",
          fmt::format("pod: \"{}_{}({})\". kubelet does not have ClusterDNS IP configured and cannot create Pod using "
                      "\"ClusterFirst\" policy. Falling back to \"Default\" policy.",
                      meta.name(), meta.namespace_(), meta.uid())};
}

void cut_servers(PodDns& dns) {
  std::vector<std::string>& servers = dns.resolver.servers;
  if (servers.size() <= kMaxServers) return;
  servers.resize(kMaxServers);
  dns.warnings.push_back(
      {"DNSConfigForming",
       fmt::format("Nameserver limits were exceeded, some nameservers have been omitted, the applied "
                   "nameserver line is: {}",
                   fmt::join(servers, " "))});
}

void cut_searches(PodDns& dns) {
  std::vector<std::string>& searches = dns.resolver.searches;
  const std::size_t before = searches.size();
  searches.resize(std::min(before, kMaxSearches));
  std::erase_if(searches, [](const std::string& path) { return path.size() > kMaxSearchPath; });
  while (line_length(searches) > kMaxSearchLine) searches.pop_back();
  if (searches.size() == before) return;
  dns.warnings.push_back(
      {"DNSConfigForming", fmt::format("Search Line limits were exceeded, some search paths have been omitted, the "
                                       "applied search line is: {}",
                                       fmt::join(searches, " "))});
}

}  // namespace

Result<Resolver> parse_resolv_conf(std::string_view text) {
  Resolver out;
  std::istringstream lines{std::string(text)};
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string key;
    words >> key;
    std::vector<std::string> rest;
    for (std::string word; words >> word;) rest.push_back(word);
    if (key == "nameserver") {
      if (rest.empty()) return fail(Code::kInvalid, "nameserver list is empty");
      out.servers.push_back(rest.front());
    } else if (key == "search") {
      out.searches.clear();
      for (std::string& domain : rest) {
        if (domain == ".") continue;
        if (domain.ends_with('.')) domain.pop_back();
        out.searches.push_back(std::move(domain));
      }
    } else if (key == "options") {
      for (const std::string& option : rest) set_option(out.options, option);
    }
  }
  return out;
}

bool uses_node_resolver(const k8s::Pod& pod) {
  return base_of(pod.spec()) != Base::kNone;
}

PodDns pod_dns(const k8s::Pod& pod, const DnsSettings& settings, const Resolver& node,
               const std::vector<IpAddress>& node_ips) {
  PodDns out;
  Base base = base_of(pod.spec());
  if (base == Base::kCluster && settings.cluster_servers.empty()) {
    out.warnings.push_back(no_cluster_dns(pod));
    base = Base::kNode;
  }
  if (base == Base::kCluster) out.resolver = of_cluster(pod, settings, node);
  if (base == Base::kNode) out.resolver = settings.resolv_conf.empty() ? of_nowhere(node_ips) : node;
  if (pod.spec().has_dnsconfig()) {
    Resolver own{.servers = {}, .searches = {}, .options = out.resolver.options};
    for (const std::string& server : out.resolver.servers) append_new(own.servers, server);
    for (const std::string& search : out.resolver.searches) append_new(own.searches, search);
    for (const std::string& server : pod.spec().dnsconfig().nameservers()) append_new(own.servers, server);
    for (const std::string& search : pod.spec().dnsconfig().searches()) append_new(own.searches, search);
    for (const auto& option : pod.spec().dnsconfig().options()) {
      set_option(own.options, option.name() + (option.value().empty() ? "" : ":" + option.value()));
    }
    out.resolver = std::move(own);
  }
  cut_servers(out);
  cut_searches(out);
  return out;
}

}  // namespace fairlead::pods
