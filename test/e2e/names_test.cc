// SPDX-License-Identifier: Apache-2.0
// What pods are called and whom they ask for names, on a whole node: their resolv.conf, hosts file and host name as
// their own containers see them; and ports of the node that lead to a pod. With each containerd.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "test/e2e/manifests.h"
#include "test/e2e/node_fixture.h"
#include "test/kit/netns.h"

namespace fairlead::e2e {
namespace {

using namespace std::chrono_literals;
using testing::HasSubstr;
using testkit::eventually;

constexpr auto kResolvConf = "nameserver 192.0.2.53\nsearch node.example.\noptions timeout:1\n";

class NamesTest : public testing::TestWithParam<const char*> {
 protected:
  static void TearDownTestSuite() { node_.reset(); }

  void SetUp() override {
    if (node_ == nullptr) start();
    ASSERT_NE(node_, nullptr);
    ASSERT_TRUE(node_->agent_runs()) << node_->agent_log();
  }

  void TearDown() override {
    if (node_ == nullptr) return;
    node_->withdraw_all();
    EXPECT_TRUE(eventually([] { return node_->ctl("pod list") == Json::array() && node_->leftovers().empty(); }, 10s))
        << node_->leftovers() << node_->ctl("pod list").dump(1);
    if (HasFailure()) std::cerr << node_->agent_log();
  }

  static void start() {
    const std::string name = *GetParam() == 0 ? "names" : "names-v2";
    const auto folder = std::filesystem::path(testkit::folder()) / name;
    auto made = Node::make(name, GetParam(),
                           {"--manifests", folder / "manifests", "--pod-cidr", fmt::format("{},{}", kPodsV4, kPodsV6),
                            "--service-cidr", "10.96.0.0/16,fd00:10:96::/112", "--cluster-dns", "10.96.0.10",
                            "--cluster-domain", "cluster.example", "--resolv-conf", folder / "resolv.conf"});
    ASSERT_TRUE(made) << made.error().message();
    std::ofstream(folder / "resolv.conf") << kResolvConf;
    const auto started = (*made)->start_agent();
    ASSERT_TRUE(started) << started.error().message();
    node_ = std::move(*made);
  }

  // Runs a pod that only waits, `spec` being the rest of its fields.
  static void run(const std::string& name, const std::string& spec, const std::string& container = "") {
    node_->apply(name + ".yaml", shell(name, "trap exit TERM; sleep 1000 & wait", spec, container));
    ASSERT_TRUE(eventually([&] { return node_->pod_is(name, "Running", "1/1"); }, 20s)) << node_->pod(name).dump(1);
  }
  static Json about(const std::string& name) {  // an empty object: the agent knows of no such pod
    Json pod = node_->ctl("pod get " + name);
    return pod.is_object() ? pod : Json::object();
  }
  static std::string says(const std::string& pod, const std::string& line) { return node_->in_pod(pod, line).output; }
  static std::string ip(const std::string& pod, int which) { return node_->pod(pod)["ips"][which]; }

  static inline std::unique_ptr<Node> node_;
};

TEST_P(NamesTest, ResolvConfIsWhatThePolicySays) {
  run("first", "");
  run("default", "dnsPolicy: Default");
  run("host", "hostNetwork: true");
  run("host-first", "hostNetwork: true\n  dnsPolicy: ClusterFirstWithHostNet");
  run("none", R"(dnsPolicy: None
  dnsConfig: {nameservers: [192.0.2.1], searches: [a.example], options: [{name: ndots, value: "2"}, {name: edns0}]})");
  run("more", R"(dnsConfig: {nameservers: [192.0.2.1], searches: [a.example], options: [{name: ndots, value: "1"}]})");
  const std::string search = "default.svc.cluster.example svc.cluster.example cluster.example node.example";
  const auto file = [](const std::string& pod) { return says(pod, "cat /etc/resolv.conf"); };
  const std::string first = "search " + search + "\nnameserver 10.96.0.10\noptions ndots:5\n";
  const std::string node = "search node.example\nnameserver 192.0.2.53\noptions timeout:1\n";
  EXPECT_EQ(file("first"), first);
  EXPECT_EQ(file("default"), node);
  EXPECT_EQ(file("host"), node);
  EXPECT_EQ(file("host-first"), first);
  EXPECT_EQ(file("none"), "search a.example\nnameserver 192.0.2.1\noptions ndots:2 edns0\n");
  EXPECT_EQ(file("more"),
            "search " + search + " a.example\nnameserver 10.96.0.10\nnameserver 192.0.2.1\noptions ndots:1\n");
}

TEST_P(NamesTest, HostNameAndHostsFile) {
  run("plain", "");
  run("member", "hostname: box\n  subdomain: db\n  hostAliases: [{ip: 192.0.2.9, hostnames: [far, far.example]}]");
  run("full", "hostname: box\n  subdomain: db\n  setHostnameAsFQDN: true");
  run("other", "hostname: box\n  subdomain: db\n  hostnameOverride: mail.example");
  run("host", "hostNetwork: true\n  hostAliases: [{ip: 192.0.2.9, hostnames: [far.example]}]");
  const std::string domain = "db.default.svc.cluster.example";
  const auto lines = [](const std::string& pod, const std::string& names) {
    return fmt::format("{}\t{}\n{}\t{}\n", ip(pod, 0), names, ip(pod, 1), names);
  };
  EXPECT_EQ(says("plain", "hostname; hostname -f"), "plain\nplain\n");
  EXPECT_THAT(says("plain", "cat /etc/hosts"), testing::EndsWith("\n" + lines("plain", "plain")));
  EXPECT_EQ(says("member", "hostname; hostname -f"), "box\nbox." + domain + "\n");
  EXPECT_THAT(says("member", "cat /etc/hosts"),
              testing::EndsWith("\n" + lines("member", "box." + domain + "\tbox") +
                                "\n# Entries added by HostAliases.\n192.0.2.9\tfar\tfar.example\n"));
  EXPECT_EQ(says("full", "hostname; hostname -f"), fmt::format("box.{0}\nbox.{0}\n", domain));
  EXPECT_EQ(says("other", "hostname"), "mail.example\n");
  EXPECT_THAT(says("other", "cat /etc/hosts"), testing::EndsWith("\n" + lines("other", "mail.example")));
  EXPECT_THAT(says("host", "cat /etc/hosts"),
              testing::AllOf(testing::StartsWith("# Kubernetes-managed hosts file (host network).\n"),
                             testing::EndsWith("\n# Entries added by HostAliases.\n192.0.2.9\tfar.example\n")));
  EXPECT_EQ(says("host", "hostname"), testkit::run_command("hostname").output);
}

TEST_P(NamesTest, AFullNameTooLongForAKernelStartsNothing) {
  node_->apply("long.yaml",
               shell("long", "exit",
                     fmt::format("hostname: {}\n  subdomain: db\n  setHostnameAsFQDN: true", std::string(40, 'h'))));
  const auto failure = [] { return about("long").value("failures", Json::object()).value("/sandbox", ""); };
  EXPECT_TRUE(eventually([&] { return failure().contains("is too long (64 characters is the max"); }, 10s))
      << about("long").dump(1);
  EXPECT_EQ(node_->pod_text("long", "phase"), "Pending");
}

TEST_P(NamesTest, TheHostsFileIsMadeAnewWithAContainerAndNotOverItsOwn) {
  run("own", "volumes: [{name: own, emptyDir: {}}]",
      R"(, volumeMounts: [{name: own, mountPath: /etc/hosts, subPath: hosts}])");
  EXPECT_EQ(says("own", "test -d /etc/hosts && echo its own"), "its own\n");

  run("web", "");
  const std::string made = says("web", "cat /etc/hosts");
  EXPECT_EQ(says("web", "echo 192.0.2.1 mine >>/etc/hosts; tail -n 1 /etc/hosts"), "192.0.2.1 mine\n");
  const auto before = node_->containers("web");
  node_->kill_task(*before.begin());
  ASSERT_TRUE(eventually(
      [&] {
        const auto now = node_->containers("web");
        return now.size() == 1 && now != before;
      },
      20s));
  EXPECT_EQ(says("web", "cat /etc/hosts"), made);
}

TEST_P(NamesTest, AHostPortLeadsToItsPod) {
  const auto serving = [](const std::string& name, const std::string& ports) {
    return pod_of(name, R"(args: [serve, --http, "8080", --udp, "8082"], ports: [)" + ports + "]");
  };
  node_->apply("client.yaml", client());
  node_->apply("a.yaml", serving("a", fmt::format("{{containerPort: 8080, hostPort: 18080}}, {{containerPort: 8080, "
                                                  "hostPort: 18081, hostIP: {}}}, {{containerPort: 8082, hostPort: "
                                                  "18080, protocol: UDP}}",
                                                  kNodeV4)));
  for (const char* pod : {"client", "a"}) {
    ASSERT_TRUE(eventually([&] { return node_->pod_is(pod, "Running", "1/1"); }, 20s)) << node_->pod(pod).dump(1);
  }
  const auto asked = [](const std::string& pod, const std::string& url) { return node_->get(pod, url, 2); };
  const Answers served{{"a", 2}};
  const std::string v4 = kNodeV4;
  const std::string v6 = "[" + std::string(kNodeV6) + "]";
  EXPECT_TRUE(eventually([&] { return asked("client", "http://" + v4 + ":18080/") == served; }, 5s))
      << node_->ctl("endpoint list").dump(1) << node_->ctl("service list").dump(1);
  EXPECT_EQ(asked("client", "http://" + v6 + ":18080/"), served);
  EXPECT_EQ(asked("client", "http://" + v4 + ":18081/"), served);
  EXPECT_EQ(asked("client", "http://" + v6 + ":18081/"), (Answers{{"failed", 2}})) << "its hostIP is the other one";
  EXPECT_EQ(asked("client", "udp://" + v4 + ":18080"), served);
  EXPECT_EQ(asked("", "http://" + v4 + ":18080/"), served) << "the node itself";
  EXPECT_EQ(node_->ctl("pod get a")["object_status"]["hostIP"], kNodeV4);

  // The port is taken: by the rule of the scheduler's NodePorts the second pod fails, also for another agent.
  node_->apply("b.yaml", serving("b", "{containerPort: 8080, hostPort: 18080}"));
  const auto refused = [] {
    const Json status = about("b").value("object_status", Json::object());
    return status.value("phase", "") == "Failed" && status.value("reason", "") == "NodePorts";
  };
  EXPECT_TRUE(eventually(refused, 5s)) << about("b").dump(1);
  EXPECT_THAT(about("b").value("refused", ""), HasSubstr("*:18080/TCP is pod default/a's"));
  node_->kill_agent();
  const auto again = node_->start_agent();
  ASSERT_TRUE(again) << again.error().message();
  EXPECT_TRUE(refused()) << about("b").dump(1);
  EXPECT_TRUE(node_->pod_is("a", "Running", "1/1"));
  EXPECT_EQ(asked("client", "http://" + v4 + ":18080/"), served);

  // And is free for another when its pod is gone.
  node_->withdraw("a.yaml");
  ASSERT_TRUE(eventually([] { return node_->pod("a").is_null(); }, 10s));
  node_->apply("c.yaml", serving("c", "{containerPort: 8080, hostPort: 18080}"));
  EXPECT_TRUE(eventually([&] { return asked("client", "http://" + v4 + ":18080/") == Answers{{"c", 2}}; }, 20s))
      << node_->pod("c").dump(1);
}

INSTANTIATE_TEST_SUITE_P(Debian, NamesTest, testing::Values(""));
INSTANTIATE_TEST_SUITE_P(V2, NamesTest, testing::Values(FAIRLEAD_GO_BIN));

}  // namespace
}  // namespace fairlead::e2e
