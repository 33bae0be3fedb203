// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/pod_names.h"

#include <gtest/gtest.h>

#include "test/unit/pods/pod.h"

namespace fairlead::pods {
namespace {

TEST(PodNames, HostAndDomain) {
  struct Case {
    std::string name, hostname, subdomain, override;
    std::string host, domain;
  };
  const std::string long_name = std::string(62, 'a') + "-b";
  for (const Case& each : std::initializer_list<Case>{
           {"web", "", "", "", "web", ""},
           {"web", "h", "", "", "h", ""},
           {"web", "", "db", "", "web", "db.ns.svc.cluster.local"},
           {"web", "h", "db", "", "h", "db.ns.svc.cluster.local"},
           {"web", "h", "db", "o.example", "o.example", ""},
           {long_name, "", "", "", std::string(62, 'a'), ""},
           {std::string(62, 'a') + ".b", "", "", "", std::string(62, 'a'), ""},
           {"web", "", "", std::string(64, 'o'), std::string(63, 'o'), ""},
       }) {
    k8s::Pod pod = make_pod();
    pod.mutable_metadata()->set_name(each.name);
    pod.mutable_spec()->set_hostname(each.hostname);
    pod.mutable_spec()->set_subdomain(each.subdomain);
    if (!each.override.empty()) pod.mutable_spec()->set_hostnameoverride(each.override);
    const PodName got = pod_name(pod, "cluster.local");
    EXPECT_EQ(got.host, each.host);
    EXPECT_EQ(got.domain, each.domain);
  }
}

TEST(PodNames, TheKernelsNameIsFullWhereAskedAndFits) {
  k8s::Pod pod = make_pod();
  auto& spec = *pod.mutable_spec();
  spec.set_sethostnameasfqdn(true);
  EXPECT_EQ(kernel_host_name(pod, "cluster.local").value(), "p");  // it is in no domain
  spec.set_subdomain("db");
  EXPECT_EQ(kernel_host_name(pod, "cluster.local").value(), "p.db.ns.svc.cluster.local");
  EXPECT_EQ(kernel_host_name(pod, "").value(), "p.db.ns.svc");
  spec.set_hostname(std::string(40, 'h'));  // 64 with ".db.ns.svc.cluster.local"
  EXPECT_EQ(kernel_host_name(pod, "cluster.local").value().size(), 64U);
  spec.set_hostname(std::string(41, 'h'));
  EXPECT_EQ(kernel_host_name(pod, "cluster.local").error().message(),
            "failed to construct FQDN from pod hostname and cluster domain, FQDN " + std::string(41, 'h') +
                ".db.ns.svc.cluster.local is too long (64 characters is the max, 65 characters requested)");
  spec.set_sethostnameasfqdn(false);
  EXPECT_EQ(kernel_host_name(pod, "cluster.local").value(), std::string(41, 'h'));
}

TEST(PodNames, HostsFile) {
  auto pod = make_pod();
  const std::vector<IpAddress> ips{IpAddress::parse("10.0.0.7").value(), IpAddress::parse("fd00::7").value()};
  const auto file = [&] { return hosts_file(pod, "cluster.local", ips, "127.0.0.1 n1\n"); };
  EXPECT_EQ(file(),
            "# Kubernetes-managed hosts file.\n"
            "127.0.0.1\tlocalhost\n"
            "::1\tlocalhost ip6-localhost ip6-loopback\n"
            "fe00::0\tip6-localnet\n"
            "fe00::0\tip6-mcastprefix\n"
            "fe00::1\tip6-allnodes\n"
            "fe00::2\tip6-allrouters\n"
            "10.0.0.7\tp\n"
            "fd00::7\tp\n");
  pod.mutable_spec()->set_subdomain("db");
  auto& alias = *pod.mutable_spec()->add_hostaliases();
  alias.set_ip("192.0.2.9");
  alias.add_hostnames("a");
  alias.add_hostnames("b.c");
  EXPECT_TRUE(
      file().ends_with("\n10.0.0.7\tp.db.ns.svc.cluster.local\tp\nfd00::7\tp.db.ns.svc.cluster.local\tp\n"
                       "\n# Entries added by HostAliases.\n192.0.2.9\ta\tb.c\n"))
      << file();
  pod.mutable_spec()->set_hostnetwork(true);
  EXPECT_EQ(file(),
            "# Kubernetes-managed hosts file (host network).\n127.0.0.1 n1\n"
            "\n# Entries added by HostAliases.\n192.0.2.9\ta\tb.c\n");
}

}  // namespace
}  // namespace fairlead::pods
