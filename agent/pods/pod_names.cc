// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/pod_names.h"

#include <k8s/pod.pb.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/fmt/ranges.h>

namespace fairlead::pods {
namespace {

constexpr std::size_t kHostNameLimit = 63;
constexpr std::size_t kKernelLimit = 64;  // utsname's nodename, without its zero

std::string cut(std::string name) {
  if (name.size() <= kHostNameLimit) return name;
  name.resize(kHostNameLimit);
  while (!name.empty() && (name.back() == '-' || name.back() == '.')) name.pop_back();
  return name;
}

}  // namespace

PodName pod_name(const k8s::Pod& pod, const std::string& cluster_domain) {
  const auto& spec = pod.spec();
  // Empty is unset: an API server writes both alike.
  if (!spec.hostnameoverride().empty()) return {.host = cut(spec.hostnameoverride()), .domain = ""};
  PodName name{.host = cut(spec.hostname().empty() ? pod.metadata().name() : spec.hostname()), .domain = ""};
  if (!spec.subdomain().empty()) {
    name.domain = fmt::format("{}.{}.svc", spec.subdomain(), pod.metadata().namespace_());
    if (!cluster_domain.empty()) name.domain += "." + cluster_domain;
  }
  return name;
}

Result<std::string> kernel_host_name(const k8s::Pod& pod, const std::string& cluster_domain) {
  const PodName name = pod_name(pod, cluster_domain);
  if (name.domain.empty() || !pod.spec().sethostnameasfqdn()) return name.host;
  std::string full = name.host + "." + name.domain;
  if (full.size() > kKernelLimit) {
    return fail(Code::kInvalid,
                "failed to construct FQDN from pod hostname and cluster domain, FQDN {} is too long ({} characters is "
                "the max, {} characters requested)",
                full, kKernelLimit, full.size());
  }
  return full;
}

std::string hosts_file(const k8s::Pod& pod, const std::string& cluster_domain, const std::vector<IpAddress>& ips,
                       const std::string& node_hosts) {
  std::string text;
  if (pod.spec().hostnetwork()) {
    text = "# Kubernetes-managed hosts file (host network).\n" + node_hosts;
  } else {
    text =
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
        "fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n";
    const PodName name = pod_name(pod, cluster_domain);
    const std::string full = name.domain.empty() ? "" : name.host + "." + name.domain + "\t";
    for (const IpAddress& ip : ips) text += ip.str() + "\t" + full + name.host + "\n";
  }
  if (pod.spec().hostaliases().empty()) return text;
  text += "\n# Entries added by HostAliases.\n";
  for (const auto& alias : pod.spec().hostaliases()) {
    text += fmt::format("{}\t{}\n", alias.ip(), fmt::join(alias.hostnames(), "\t"));
  }
  return text;
}

}  // namespace fairlead::pods
