// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/api/kubeconfig.h"

#include <gtest/gtest.h>

#include <fstream>

namespace fairlead::kube {
namespace {

std::filesystem::path write(const std::string& text) {
  const auto file = std::filesystem::path(testing::TempDir()) / "kubeconfig_test.yaml";
  std::ofstream(file) << text;
  return file;
}

std::string config(const std::string& user) {
  return "current-context: c\n"
         "contexts: [{name: c, context: {cluster: k, user: u}}]\n"
         "clusters: [{name: k, cluster: {server: 'https://127.0.0.1:6443/', certificate-authority: ca.crt}}]\n"
         "users: [{name: u, user: " +
         user + "}]\n";
}

TEST(Kubeconfig, ReadsTheCurrentContext) {
  const auto access =
      read_kubeconfig(write(config("{token: secret, client-certificate-data: UEVN, client-key: k.pem}")));
  ASSERT_TRUE(access) << access.error().what;
  EXPECT_EQ(access->server, "https://127.0.0.1:6443");
  EXPECT_EQ(access->ca_file, std::filesystem::path(testing::TempDir()) / "ca.crt");
  EXPECT_EQ(*access->bearer_token(), "secret");
  EXPECT_EQ(access->client_cert_data, "PEM");
}

TEST(Kubeconfig, ATokenFileIsReadAtEachUse) {
  const auto token = std::filesystem::path(testing::TempDir()) / "kubeconfig_test.token";
  const auto access = read_kubeconfig(write(config("{tokenFile: " + token.string() + "}")));
  std::ofstream(token) << "one\n";
  EXPECT_EQ(*access->bearer_token(), "one");
  std::ofstream(token) << "two\n";
  EXPECT_EQ(*access->bearer_token(), "two");
}

TEST(Kubeconfig, ReadsAnExecPlugin) {
  const auto access = read_kubeconfig(
      write(config("{exec: {apiVersion: client.authentication.k8s.io/v1, command: ./plugin, args: [a, b], "
                   "env: [{name: K, value: V}], provideClusterInfo: true, interactiveMode: Never}}")));
  ASSERT_TRUE(access) << access.error().what;
  ASSERT_TRUE(access->exec);
  EXPECT_EQ(access->exec->command, std::filesystem::path(testing::TempDir()) / "./plugin");
  EXPECT_EQ(access->exec->args, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(access->exec->env, (std::vector<std::pair<std::string, std::string>>{{"K", "V"}}));
  EXPECT_TRUE(access->exec->provide_cluster_info);
}

TEST(Kubeconfig, ErrorsNameFileAndField) {
  for (const auto& [text, want] : std::vector<std::pair<std::string, std::string>>{
           {"kind: Config\n", "current-context"},
           {"current-context: x\n", "yaml:1: contexts: required value"},
           {"current-context: x\ncontexts: []\n", "yaml:2: contexts: no entry named \"x\""},
           {"current-context: x\ncontexts: [{name: x, context: {cluster: k}}]\n",
            "yaml:2: contexts[].context.user: required value"},
           {config("{client-certificate: a.pem}"), "yaml:4: users[].user.client-key: required value"},
           {config("{username: a}"), "yaml:4: users[].user.username: not supported"},
           {config("{exec: x}"), "yaml:4: users[].user.exec: expected a map"},
           {config("{exec: {command: x}}"), "yaml:4: users[].user.exec.apiVersion: required value"},
           {config("{exec: {command: x, apiVersion: v1}}"), "yaml:4: users[].user.exec.apiVersion: want client.auth"},
           {config("{exec: {apiVersion: client.authentication.k8s.io/v1}}"), "users[].user.exec.command: required"},
           {config("{exec: {apiVersion: client.authentication.k8s.io/v1, command: x, args: [[a]]}}"),
            "users[].user.exec.args[]: expected a string"},
           {config("{client-key-data: '!!'}"), "yaml:4: users[].user.client-key-data: not base64"},
           {config("{token: [a]}"), "yaml:4: users[].user.token: expected a string, got a list"},
           {config("five"), "yaml:4: users[].user: expected a map, got a string"},
           {"a: [\n", "kubeconfig_test.yaml:2: "},
           {"a: &a [*a]\n", "yaml:1: an alias stands inside its own anchor"},
           {"[]", "yaml:1: expected a map, got a list"},
           {"", "expected one document"},
           {std::string("\xff\xfe\0", 3), "yaml:1: not UTF-8"},
       }) {
    const auto access = read_kubeconfig(write(text));
    ASSERT_FALSE(access) << text;
    EXPECT_NE(access.error().what.find(want), std::string::npos) << access.error().what;
    EXPECT_NE(access.error().what.find("kubeconfig_test.yaml"), std::string::npos);
  }
  EXPECT_EQ(read_kubeconfig("/nonexistent").error().code, Code::kNotFound);
}

}  // namespace
}  // namespace fairlead::kube
