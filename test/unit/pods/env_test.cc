// SPDX-License-Identifier: Apache-2.0
#include "agent/pods/env.h"

#include <gtest/gtest.h>

#include "test/unit/pods/pod.h"

namespace fairlead::pods {
namespace {

TEST(Env, Expands) {
  const std::map<std::string, std::string> values{{"A", "1"}, {"E", ""}};
  for (const auto& [text, want] : std::map<std::string, std::string>{{"$(A)", "1"},
                                                                     {"x$(A)y$(E)z", "x1yz"},
                                                                     {"$(B)", "$(B)"},
                                                                     {"$$(A)", "$(A)"},
                                                                     {"$$$(A)", "$1"},
                                                                     {"$A $", "$A $"},
                                                                     {"$(A", "$(A"}}) {
    EXPECT_EQ(expand(text, values), want) << text;
  }
}

TEST(Env, SubPathExprsAreExpanded) {
  const Env env{{"POD", "web-1"}, {"EMPTY", ""}, {"UP", "../.."}, {"ROOT", "/etc"}};
  for (const auto& [text, want] :
       std::map<std::string, std::string>{{"logs/$(POD)", "logs/web-1"},
                                          {"$$(POD)", "$(POD)"},
                                          {"", ""},
                                          {"$(NONE)/$(EMPTY)", "! missing value for EMPTY, NONE"},
                                          {"a/$(UP)", "! unable to provision SubPath `a/../..`: must not contain '..'"},
                                          {"$(ROOT)", "! error SubPath `/etc` must not be an absolute path"}}) {
    k8s::Container container = make_container("web");
    auto& mount = *container.add_volumemounts();
    mount.set_mountpath("/logs");
    mount.set_subpathexpr(text);
    const auto got = expand_sub_paths(container, env);
    EXPECT_EQ(got ? got->volumemounts(0).subpath() : "! " + got.error().message(), want) << text;
  }
}

class EnvTest : public testing::Test {
 protected:
  k8s::Pod pod = make_pod();
  k8s::Container& container = *pod.mutable_spec()->mutable_containers(0);
  std::shared_ptr<model::ConfigData> object = std::make_shared<model::ConfigData>();
  ConfigLookup config = [this](ConfigKind, const std::string& key) -> Result<std::shared_ptr<const model::ConfigData>> {
    if (key == "ns/unread") return fail(Code::kUnavailable, "not read yet");
    return key == "ns/c" ? object : nullptr;
  };
  DownwardFacts facts{.pod_ips = {IpAddress::parse("10.0.0.7").value(), IpAddress::parse("fd00::7").value()},
                      .node_ips = {IpAddress::parse("192.0.2.1").value(), IpAddress::parse("2001:db8::1").value()},
                      .node_name = "n1",
                      .allocatable = {.cpu_milli = 2500, .memory_bytes = 1000, .ephemeral_bytes = 50}};
  Env services;

  k8s::EnvVar& add(const std::string& name) {
    container.add_env()->set_name(name);
    return *container.mutable_env(container.env_size() - 1);
  }
  Result<Env> env() { return container_env({pod, config, facts, services}, container); }
  // The only variable's value.
  std::string value() {
    const auto all = env();
    return all ? all->back().second : all.error().message();
  }
};

TEST_F(EnvTest, FromEverywhere) {
  object->data = {{"k", "v"}, {"A", "from"}};
  auto& from = *container.add_envfrom();
  from.set_prefix("P_");
  from.mutable_configmapref()->mutable_localobjectreference()->set_name("c");
  services = {{"S", "10.96.0.1"}, {"P_k", "service"}};
  add("ONE").set_value("$(P_k) $(S)");
  add("P_A").set_value("own");
  add("IP").mutable_valuefrom()->mutable_fieldref()->set_fieldpath("status.podIP");
  auto& key = *add("KEY").mutable_valuefrom()->mutable_secretkeyref();
  key.mutable_localobjectreference()->set_name("c");
  key.set_key("k");
  const auto got = env();
  ASSERT_TRUE(got) << got.error().message();
  EXPECT_EQ(
      *got,
      (Env{
          {"S", "10.96.0.1"}, {"P_k", "v"}, {"P_A", "own"}, {"ONE", "v 10.96.0.1"}, {"IP", "10.0.0.7"}, {"KEY", "v"}}));

  key.set_key("nope");
  EXPECT_EQ(value(), "couldn't find key nope in secret ns/c");
  key.set_optional(true);
  EXPECT_EQ(env()->size(), 5U);
  key.mutable_localobjectreference()->set_name("unread");
  EXPECT_EQ(env().error().code, Code::kUnavailable);  // optional or not: it may be there
  key.set_optional(false);
  key.mutable_localobjectreference()->set_name("other");
  EXPECT_EQ(value(), "secret \"other\" not found");
}

TEST_F(EnvTest, Fields) {
  pod.mutable_spec()->set_serviceaccountname("robot");
  (*pod.mutable_metadata()->mutable_labels())["app.x/y"] = "l";
  (*pod.mutable_metadata()->mutable_annotations())["note"] = "a";
  auto& field = *add("F").mutable_valuefrom()->mutable_fieldref();
  for (const auto& [path, want] :
       std::map<std::string, std::string>{{"metadata.name", "p"},
                                          {"metadata.namespace", "ns"},
                                          {"metadata.uid", "u1"},
                                          {"metadata.labels['app.x/y']", "l"},
                                          {"metadata.labels['none']", ""},
                                          {"metadata.annotations['note']", "a"},
                                          {"spec.nodeName", "n1"},
                                          {"spec.serviceAccountName", "robot"},
                                          {"status.hostIP", "192.0.2.1"},
                                          {"status.hostIPs", "192.0.2.1,2001:db8::1"},
                                          {"status.podIP", "10.0.0.7"},
                                          {"status.podIPs", "10.0.0.7,fd00::7"},
                                          {"status.phase", "unsupported fieldPath: status.phase"},
                                          {"metadata.labels['", "unsupported fieldPath: metadata.labels['"}}) {
    field.set_fieldpath(path);
    EXPECT_EQ(value(), want) << path;
  }
}

TEST_F(EnvTest, Resources) {
  auto& resources = *container.mutable_resources();
  (*resources.mutable_limits())["memory"].set_string("64Mi");
  (*resources.mutable_requests())["cpu"].set_string("250m");
  auto& field = *add("R").mutable_valuefrom()->mutable_resourcefieldref();
  struct Row {
    const char* resource;
    const char* divisor;
    const char* want;
  };
  for (const Row& row : {Row{"limits.memory", "", "67108864"},
                         {"limits.memory", "0", "67108864"},
                         {"limits.memory", "1Mi", "64"},
                         {"limits.memory", "1Gi", "1"},  // rounded up
                         {"requests.cpu", "", "1"},
                         {"requests.cpu", "1m", "250"},
                         {"limits.cpu", "", "3"},  // unset: the node's
                         {"limits.cpu", "1m", "2500"},
                         {"requests.memory", "", "0"},
                         {"limits.ephemeral-storage", "", "50"},
                         {"limits.pods", "", "unsupported resource: limits.pods"},
                         {"cpu", "", "unsupported resource: cpu"}}) {
    field.set_resource(row.resource);
    field.mutable_divisor()->set_string(row.divisor);
    EXPECT_EQ(value(), row.want) << row.resource << " " << row.divisor;
  }
  field.set_containername("other");
  EXPECT_EQ(value(), "container other not found");
}

std::shared_ptr<const model::Service> make_service(const std::string& ns, const std::string& name, const char* ip,
                                                   std::vector<model::ServicePort> ports) {
  model::Service service{.id = {ns, name, "u-" + name}, .ports = std::move(ports)};
  if (*ip != '\0') service.cluster_ips = {IpAddress::parse(ip).value()};
  return std::make_shared<const model::Service>(std::move(service));
}

TEST(ServiceEnv, InKubeletsAndDockersWords) {
  const k8s::Pod pod = make_pod();
  const auto env = service_env(
      pod,
      {make_service("ns", "my-db", "10.96.0.5",
                    {{.name = "pg", .port = 5432}, {.name = "m-x", .port = 53, .protocol = Protocol::kUdp}}),
       make_service("ns", "headless", "", {{.port = 80}}), make_service("other", "web", "10.96.0.6", {{.port = 80}}),
       make_service("default", "kubernetes", "fd00::1", {{.name = "https", .port = 443}})});
  EXPECT_EQ(env, (Env{{"KUBERNETES_SERVICE_HOST", "fd00::1"},
                      {"KUBERNETES_SERVICE_PORT", "443"},
                      {"KUBERNETES_SERVICE_PORT_HTTPS", "443"},
                      {"KUBERNETES_PORT", "tcp://[fd00::1]:443"},
                      {"KUBERNETES_PORT_443_TCP", "tcp://[fd00::1]:443"},
                      {"KUBERNETES_PORT_443_TCP_PROTO", "tcp"},
                      {"KUBERNETES_PORT_443_TCP_PORT", "443"},
                      {"KUBERNETES_PORT_443_TCP_ADDR", "fd00::1"},
                      {"MY_DB_SERVICE_HOST", "10.96.0.5"},
                      {"MY_DB_SERVICE_PORT", "5432"},
                      {"MY_DB_SERVICE_PORT_PG", "5432"},
                      {"MY_DB_SERVICE_PORT_M_X", "53"},
                      {"MY_DB_PORT", "tcp://10.96.0.5:5432"},
                      {"MY_DB_PORT_5432_TCP", "tcp://10.96.0.5:5432"},
                      {"MY_DB_PORT_5432_TCP_PROTO", "tcp"},
                      {"MY_DB_PORT_5432_TCP_PORT", "5432"},
                      {"MY_DB_PORT_5432_TCP_ADDR", "10.96.0.5"},
                      {"MY_DB_PORT_53_UDP", "udp://10.96.0.5:53"},
                      {"MY_DB_PORT_53_UDP_PROTO", "udp"},
                      {"MY_DB_PORT_53_UDP_PORT", "53"},
                      {"MY_DB_PORT_53_UDP_ADDR", "10.96.0.5"}}));
}

TEST(ServiceEnv, WithoutLinksOnlyTheApiServerIsNamed) {
  k8s::Pod pod = make_pod();
  const std::vector<std::shared_ptr<const model::Service>> services{
      make_service("ns", "kubernetes", "10.96.0.9", {{.port = 1}}),
      make_service("default", "kubernetes", "10.96.0.1", {{.port = 443}}),
      make_service("ns", "web", "10.96.0.2", {{.port = 80}})};
  EXPECT_EQ(service_env(pod, services).front().second, "10.96.0.9");  // its namespace's own goes first
  pod.mutable_spec()->set_enableservicelinks(false);
  EXPECT_EQ(service_env(pod, services).front().second, "10.96.0.1");
  EXPECT_EQ(service_env(pod, services).size(), 7U);
}

TEST(ConfigsOf, EveryPlaceThatNamesOne) {
  k8s::Pod pod = make_pod("Always", {"web"}, {"init"});
  auto& spec = *pod.mutable_spec();
  spec.add_volumes()->mutable_volumesource()->mutable_configmap()->mutable_localobjectreference()->set_name("v");
  spec.add_volumes()->mutable_volumesource()->mutable_secret()->set_secretname("s");
  auto& projected = *spec.add_volumes()->mutable_volumesource()->mutable_projected();
  projected.add_sources()->mutable_configmap()->mutable_localobjectreference()->set_name("pc");
  projected.add_sources()->mutable_secret()->mutable_localobjectreference()->set_name("ps");
  projected.add_sources()->mutable_serviceaccounttoken();
  auto& init = *spec.mutable_initcontainers(0);
  init.add_envfrom()->mutable_secretref()->mutable_localobjectreference()->set_name("ef");
  auto& value = *spec.mutable_containers(0)->add_env()->mutable_valuefrom();
  value.mutable_configmapkeyref()->mutable_localobjectreference()->set_name("ek");
  spec.add_imagepullsecrets()->set_name("pull");
  constexpr auto kMap = ConfigKind::kConfigMap;
  constexpr auto kSecret = ConfigKind::kSecret;
  EXPECT_EQ(configs_of(pod), (std::set<ConfigName>{{kMap, "ns/v"},
                                                   {kMap, "ns/pc"},
                                                   {kMap, "ns/ek"},
                                                   {kSecret, "ns/s"},
                                                   {kSecret, "ns/ps"},
                                                   {kSecret, "ns/ef"},
                                                   {kSecret, "ns/pull"}}));
}

TEST(ConfigUse, FirstAndLastUserAreTold) {
  auto [wants, out] = make_channel<model::ConfigWant>();
  ConfigUse use(wants);
  const auto told = [&, &receiver = out] {
    std::string text;
    for (const auto& want : receiver.take()) text += (want.wanted ? "+" : "-") + want.object + " ";
    return text;
  };
  const ConfigName a{ConfigKind::kConfigMap, "ns/a"};
  const ConfigName b{ConfigKind::kSecret, "ns/b"};
  use.set("u1", {a});
  use.set("u2", {a, b});
  EXPECT_EQ(told(), "+ns/a +ns/b ");
  use.set("u2", {a, b});
  EXPECT_EQ(told(), "");
  use.set("u2", {b});
  EXPECT_EQ(told(), "");
  use.set("u1", {});
  EXPECT_EQ(told(), "-ns/a ");
  use.set("u2", {});
  EXPECT_EQ(told(), "-ns/b ");
}

}  // namespace
}  // namespace fairlead::pods
