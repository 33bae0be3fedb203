// SPDX-License-Identifier: Apache-2.0
// Rules of a pod's DNS and names.
#include <k8s/pod.pb.h>
#include <spdlog/fmt/ranges.h>

#include "agent/base/ip.h"
#include "agent/kube/validate/names.h"
#include "agent/kube/validate/pod_rules.h"

namespace fairlead::kube {
namespace {

constexpr int kMaxServers = 3;
constexpr int kMaxSearches = 32;
constexpr std::size_t kMaxSearchLine = 2048;
constexpr std::size_t kMaxOverride = 64;  // what a kernel takes

void check_dns_config(Checker& check, const k8s::PodSpec& spec) {
  const std::string path = "spec.dnsConfig";
  if (spec.dnspolicy() == "None" && !spec.has_dnsconfig()) {
    return check.required(path, "must provide `dnsConfig` when `dnsPolicy` is None");
  }
  const k8s::PodDNSConfig& config = spec.dnsconfig();
  const auto& servers = config.nameservers();
  if (spec.dnspolicy() == "None" && servers.empty()) {
    return check.required(path + ".nameservers", "must provide at least one DNS nameserver when `dnsPolicy` is None");
  }
  if (servers.size() > kMaxServers) {
    check.invalid(path + ".nameservers", fmt::format("{}", fmt::join(servers, " ")),
                  fmt::format("must not have more than {} nameservers", kMaxServers));
  }
  for (int i = 0; i < servers.size(); ++i) {
    if (!IpAddress::parse(servers[i])) {
      check.invalid(at(path + ".nameservers", i), servers[i], "must be a valid IP address");
    }
  }
  const std::string searches = fmt::format("{}", fmt::join(config.searches(), " "));
  if (config.searches_size() > kMaxSearches) {
    check.invalid(path + ".searches", searches, fmt::format("must not have more than {} search paths", kMaxSearches));
  }
  if (searches.size() > kMaxSearchLine) {
    check.invalid(
        path + ".searches", searches,
        fmt::format("must not have more than {} characters (including spaces) in the search list", kMaxSearchLine));
  }
  for (int i = 0; i < config.searches_size(); ++i) {
    std::string_view search = config.searches(i);
    if (search == ".") continue;
    if (search.ends_with('.')) search.remove_suffix(1);
    check.invalid(at(path + ".searches", i), search, not_search_path(search));
  }
  for (int i = 0; i < config.options_size(); ++i) {
    if (config.options(i).name().empty()) check.required(at(path + ".options", i), "must not be empty");
  }
}

void check_host_name(Checker& check, const k8s::PodSpec& spec) {
  if (!spec.hostname().empty()) check.invalid("spec.hostname", spec.hostname(), not_dns_label(spec.hostname()));
  if (!spec.subdomain().empty()) check.invalid("spec.subdomain", spec.subdomain(), not_dns_label(spec.subdomain()));
  if (!spec.has_hostnameoverride()) return;
  const std::string path = "spec.hostnameOverride";
  if (spec.sethostnameasfqdn()) check.forbidden(path, "may not be specified when setHostnameAsFQDN is true");
  if (spec.hostnetwork()) check.forbidden(path, "may not be specified when hostNetwork is true");
  const std::string& name = spec.hostnameoverride();
  if (name.size() > kMaxOverride) {
    check.invalid(path, name, fmt::format("must be no more than {} characters", kMaxOverride));
  }
  check.invalid(path, name, not_dns_subdomain(name));
}

}  // namespace

void check_names(Checker& check, const k8s::PodSpec& spec) {
  check.one_of("spec.dnsPolicy", spec.dnspolicy(), {"ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"});
  check_dns_config(check, spec);
  check_host_name(check, spec);
  for (int i = 0; i < spec.hostaliases_size(); ++i) {
    const k8s::HostAlias& alias = spec.hostaliases(i);
    const std::string path = at("spec.hostAliases", i);
    if (!IpAddress::parse(alias.ip())) check.invalid(path + ".ip", alias.ip(), "must be a valid IP address");
    for (int j = 0; j < alias.hostnames_size(); ++j) {
      check.invalid(at(path + ".hostnames", j), alias.hostnames(j), not_dns_subdomain(alias.hostnames(j)));
    }
  }
}

}  // namespace fairlead::kube
