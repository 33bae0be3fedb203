// SPDX-License-Identifier: Apache-2.0
// Who we say that we are, and how busy or silent servers are borne.
#include "agent/kube/api/http.h"

#include <gmock/gmock.h>

#include <filesystem>
#include <fstream>

#include "agent/kube/api/exec_plugin.h"
#include "agent/kube/api/json_api.h"
#include "test/unit/kube_api/scripted_server.h"

namespace fairlead::kube {
namespace {

using namespace std::chrono_literals;
using testing::ElementsAre;
using testing::HasSubstr;

class HttpTest : public testing::Test {
 protected:
  HttpTest() {
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
  }
  ~HttpTest() override {
    http_.reset();
    std::filesystem::remove_all(folder_);
  }

  void serve(ScriptedServer::Answer answer) {
    server_.emplace(std::move(answer));
    access_.server = server_->url();
  }
  // A plugin that prints `status`, in which $n is how often it has run.
  void use_plugin(const std::string& status, const std::string& end = "") {
    const std::string script = folder_ / "plugin";
    std::ofstream(script) << "#!/bin/sh\necho run >>" << (folder_ / "runs") << "\nn=$(wc -l <" << (folder_ / "runs")
                          << ")\necho \"{\\\"kind\\\": \\\"ExecCredential\\\", \\\"apiVersion\\\": "
                             "\\\"client.authentication.k8s.io/v1\\\", \\\"status\\\": "
                          << status << "}\"\n"
                          << end;
    std::filesystem::permissions(script, std::filesystem::perms::owner_all);
    access_.exec = ExecConfig{.api_version = "client.authentication.k8s.io/v1",
                              .command = script,
                              .args = {},
                              .env = {},
                              .install_hint = {},
                              .provide_cluster_info = true};
  }
  Result<HttpResponse> get(Duration timeout = 10s) {
    if (!http_) http_.emplace(loop_, access_, clock_);
    std::optional<Result<HttpResponse>> answer;
    HttpRequest request;
    request.path = "/version";
    request.timeout = timeout;
    http_->send(request, [&](Result<HttpResponse> result) { answer = std::move(result); });
    return wait(answer);
  }
  template <class T>
  T wait(std::optional<T>& answer) {
    const auto deadline = std::chrono::steady_clock::now() + 20s;
    while (!answer && std::chrono::steady_clock::now() < deadline) loop_.poll();
    EXPECT_TRUE(answer) << "no answer";
    return answer ? std::move(*answer) : fail(Code::kTimeout, "no answer");
  }
  // The tokens that came, "" where none did.
  std::vector<std::string> tokens() {
    std::vector<std::string> all;
    for (const std::string& request : server_->requests()) {
      constexpr std::string_view kHeader = "Authorization: Bearer ";
      const std::size_t at = request.find(kHeader);
      const std::size_t from = at + kHeader.size();
      all.push_back(at == request.npos ? "" : request.substr(from, request.find('\r', at) - from));
    }
    return all;
  }

  const std::filesystem::path folder_ =
      std::filesystem::temp_directory_path() / ("fairlead-http-test-" + std::to_string(getpid()));
  Loop loop_;
  ManualClock clock_;
  ClusterAccess access_;
  std::optional<ScriptedServer> server_;
  std::optional<HttpClient> http_;
};

TEST_F(HttpTest, ATokenFileIsReadForEachRequest) {
  serve([](const std::string&) { return ScriptedAnswer{}; });
  access_.token_file = folder_ / "token";
  EXPECT_THAT(get().error().what, HasSubstr("token"));
  for (const char* token : {"one", "two"}) {
    std::ofstream(folder_ / "token") << token << "\n";
    ASSERT_TRUE(get());
  }
  EXPECT_THAT(tokens(), ElementsAre("one", "two"));
}

TEST_F(HttpTest, APluginIsAskedOnceUntilItsCredentialExpires) {
  serve([](const std::string&) { return ScriptedAnswer{}; });
  use_plugin(R"({\"token\": \"t$n\", \"expirationTimestamp\": \"2026-01-01T00:10:00Z\"})");
  ASSERT_TRUE(get());
  ASSERT_TRUE(get());
  clock_.advance(11min);  // from the start of 2026
  ASSERT_TRUE(get());
  EXPECT_THAT(tokens(), ElementsAre("t1", "t1", "t2"));
}

TEST_F(HttpTest, ARefusedPluginCredentialIsReplacedAndTheRequestSentOnceMore) {
  serve([](const std::string& request) {
    return ScriptedAnswer{.status = request.find("Bearer t1") == request.npos ? 200 : 401};
  });
  use_plugin(R"({\"token\": \"t$n\"})");
  const auto answer = get();
  ASSERT_TRUE(answer) << answer.error().what;
  EXPECT_EQ(answer->status, 200);
  EXPECT_THAT(tokens(), ElementsAre("t1", "t2"));
}

TEST_F(HttpTest, ACredentialThatIsAlwaysRefusedEndsInTheRefusal) {
  serve([](const std::string&) { return ScriptedAnswer{.status = 401}; });
  use_plugin(R"({\"token\": \"t$n\"})");
  const auto answer = get();
  ASSERT_TRUE(answer) << answer.error().what;
  EXPECT_EQ(answer->status, 401);
  EXPECT_THAT(tokens(), ElementsAre("t1", "t2"));
}

TEST_F(HttpTest, APluginGetsTheClusterAndIsNamedWhenItFails) {
  serve([](const std::string&) { return ScriptedAnswer{}; });
  use_plugin("{}");
  EXPECT_THAT(get().error().what, HasSubstr("plugin: status: neither token nor clientCertificateData"));
  use_plugin("{}", "exit 3");
  EXPECT_THAT(get().error().what, HasSubstr("plugin: exit code 3"));
  use_plugin(R"({\"token\": \"$(echo $KUBERNETES_EXEC_INFO | grep -o http:[^\\\"]*)\"})");
  ASSERT_TRUE(get());
  EXPECT_THAT(tokens(), ElementsAre(server_->url()));
  http_.reset();
  access_.exec->command = "no-such-plugin";
  access_.exec->install_hint = "install it";
  EXPECT_THAT(get().error().what, HasSubstr("no-such-plugin (install it)"));
}

TEST(ExecCredential, WhatIsWrongIsNamed) {
  const std::string version = "client.authentication.k8s.io/v1";
  const std::string head = R"({"kind": "ExecCredential", "apiVersion": ")" + version + R"(", "status": )";
  for (const auto& [text, want] : std::vector<std::pair<std::string, std::string>>{
           {"hello", "not a JSON object"},
           {R"({"kind": "Token"})", "kind"},
           {R"({"kind": "ExecCredential", "apiVersion": "v0"})", "apiVersion"},
           {head + "[]}", "status"},
           {head + R"({"clientCertificateData": "x"}})", "clientKeyData"},
           {head + R"({"token": "x", "expirationTimestamp": "soon"}})", "status.expirationTimestamp"},
       }) {
    const auto read = read_exec_credential(text, version);
    ASSERT_FALSE(read) << text;
    EXPECT_THAT(read.error().what, HasSubstr(want));
  }
}

TEST_F(HttpTest, ASilentServerEndsTheRequestAtItsDeadlineAndTheNextOneIsServed) {
  int calls = 0;
  serve([&](const std::string&) { return ScriptedAnswer{.hold = ++calls == 1}; });
  const auto silent = get(300ms);
  ASSERT_FALSE(silent);
  EXPECT_EQ(silent.error().code, Code::kTimeout);
  EXPECT_TRUE(get());
}

TEST_F(HttpTest, ACancelledRequestHasNoAnswer) {
  serve([](const std::string&) { return ScriptedAnswer{.hold = true}; });
  http_.emplace(loop_, access_, clock_);
  bool answered = false;
  HttpRequest request;
  request.path = "/";
  const auto call = http_->send(request, [&](const Result<HttpResponse>&) { answered = true; });
  const auto deadline = std::chrono::steady_clock::now() + 10s;
  while (server_->requests().empty() && std::chrono::steady_clock::now() < deadline) loop_.poll();
  http_->cancel(call);
  EXPECT_TRUE(get(200ms).error().code == Code::kTimeout);  // whatever was on its way has come by now
  EXPECT_FALSE(answered);
}

TEST_F(HttpTest, AnObjectIsWrittenWhenTheBusyServerSaysThatItMayBe) {
  int calls = 0;
  serve([&](const std::string&) -> ScriptedAnswer {
    if (++calls < 3) return {.status = calls == 1 ? 429 : 503, .body = {}, .headers = "Retry-After: 1\r\n"};
    return {.body = R"({"kind": "Pod"})"};
  });
  http_.emplace(loop_, access_, clock_);
  JsonApi api(*http_);
  std::optional<Result<Json>> answer;
  const auto start = std::chrono::steady_clock::now();
  api.create("/api/v1/pods", {{"kind", "Pod"}}, [&](Result<Json> made) { answer = std::move(made); });
  const auto made = wait(answer);
  ASSERT_TRUE(made) << made.error().what;
  EXPECT_GE(std::chrono::steady_clock::now() - start, 1900ms);
  EXPECT_THAT(server_->requests().back(), HasSubstr("{\"kind\":\"Pod\"}"));
}

TEST_F(HttpTest, AnAnswerThatIsNoJsonIsAnError) {
  serve([](const std::string&) { return ScriptedAnswer{.body = "<html>"}; });
  http_.emplace(loop_, access_, clock_);
  JsonApi api(*http_);
  std::optional<Result<Json>> answer;
  api.get("/api/v1/nodes/a", [&](Result<Json> got) { answer = std::move(got); });
  EXPECT_THAT(wait(answer).error().what, HasSubstr("GET /api/v1/nodes/a: the answer is not JSON"));
}

}  // namespace
}  // namespace fairlead::kube
