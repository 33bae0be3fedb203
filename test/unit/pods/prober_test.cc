// SPDX-License-Identifier: Apache-2.0
// The prober over real loopback sockets, and a runtime that is ours.
#include "agent/pods/probes/prober.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <vector>

#include "agent/base/socket_name.h"
#include "agent/base/unique_fd.h"
#include "test/unit/pods/fake_health.h"

namespace fairlead::pods {
namespace {

using namespace std::chrono_literals;

// Listens on loopback, on the test's own loop. Answers each request head with the next of `answers`, the last for ever;
// an empty answer says nothing.
class Server {
 public:
  Server(Loop& loop, const IpAddress& address, std::vector<std::string> answers)
      : loop_(loop), answers_(std::move(answers)), listener_(socket(domain(address), kType, 0)) {
    SocketName at = socket_name(address, 0);
    EXPECT_EQ(bind(listener_.get(), at.get(), at.size), 0);
    EXPECT_EQ(listen(listener_.get(), 16), 0);
    getsockname(listener_.get(), at.get(), &at.size);
    port_ = socket_address(*at.get()).value().port;
    watch_ = loop_.watch(listener_.get(), Loop::Ready::kRead, [this] { accept_one(); });
  }
  std::uint16_t port() const { return port_; }
  const std::vector<std::string>& requests() const { return requests_; }

 private:
  static constexpr int kType = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
  static int domain(const IpAddress& address) { return address.is_v4() ? AF_INET : AF_INET6; }

  struct Connection {
    UniqueFd fd;
    std::string text;
    Subscription watch;
  };
  void accept_one() {
    auto connection = std::make_unique<Connection>();
    connection->fd = UniqueFd(accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    auto* raw = connection.get();
    raw->watch = loop_.watch(raw->fd.get(), Loop::Ready::kRead, [this, raw] { read_some(*raw); });
    connections_.push_back(std::move(connection));
  }
  void read_some(Connection& connection) {
    char buffer[4096];
    const auto got = recv(connection.fd.get(), buffer, sizeof buffer, 0);
    if (got <= 0) return connection.watch.cancel();
    connection.text.append(buffer, static_cast<std::size_t>(got));
    if (!connection.text.ends_with("\r\n\r\n")) return;
    const std::string& answer = answers_[std::min(requests_.size(), answers_.size() - 1)];
    requests_.push_back(connection.text);
    if (answer.empty()) return;
    send(connection.fd.get(), answer.data(), answer.size(), MSG_NOSIGNAL);
    connection.watch.cancel();
    shutdown(connection.fd.get(), SHUT_WR);
  }

  Loop& loop_;
  std::vector<std::string> answers_;
  UniqueFd listener_;
  std::uint16_t port_ = 0;
  Subscription watch_;
  std::vector<std::unique_ptr<Connection>> connections_;
  std::vector<std::string> requests_;
};

// Keeps every exec until the test answers it.
class FakeRuntime final : public cri::Runtime {
 public:
#define FL_REFUSE(Name)                                                                                    \
  void call(Loop&, cri::api::Name##Request, Duration, cri::Done<cri::api::Name##Response> done) override { \
    done(fail(Code::kInvalid, #Name));                                                                     \
  }
  FL_REFUSE(Version)
  FL_REFUSE(Status)
  FL_REFUSE(RuntimeConfig)
  FL_REFUSE(RunPodSandbox)
  FL_REFUSE(StopPodSandbox)
  FL_REFUSE(RemovePodSandbox)
  FL_REFUSE(PodSandboxStatus)
  FL_REFUSE(ListPodSandbox)
  FL_REFUSE(CreateContainer)
  FL_REFUSE(StartContainer)
  FL_REFUSE(StopContainer)
  FL_REFUSE(RemoveContainer)
  FL_REFUSE(ListContainers)
  FL_REFUSE(ContainerStatus)
  FL_REFUSE(ImageStatus)
  FL_REFUSE(ListImages)
  FL_REFUSE(PullImage)
#undef FL_REFUSE
  void call(Loop&, cri::api::ExecSyncRequest request, Duration, cri::Done<cri::api::ExecSyncResponse> done) override {
    requests.push_back(std::move(request));
    waiting.push_back(std::move(done));
    if (on_exec) on_exec();
  }
  void follow_events(Loop&, std::function<void(cri::api::ContainerEventResponse)>,
                     std::function<void(StreamEnd, Error)>) override {}

  void answer(std::size_t at, Result<int> exit_code) {
    auto done = std::move(waiting.at(at));
    if (!exit_code) return done(std::unexpected(exit_code.error()));
    cri::api::ExecSyncResponse response;
    response.set_exit_code(*exit_code);
    response.set_stderr("no such file");
    done(std::move(response));
  }

  std::vector<cri::api::ExecSyncRequest> requests;
  std::vector<cri::Done<cri::api::ExecSyncResponse>> waiting;
  std::function<void()> on_exec;
};

class ProberTest : public testing::Test {
 protected:
  ProberTest() {
    limit_ = loop_.after(20s, [this] { loop_.stop(); });
  }

  ProbedContainer container(std::string id = "c1") const {
    ProbedContainer of;
    of.uid = "u1";
    of.name = "web";
    of.id = std::move(id);
    of.started = clock_.wall();
    return of;
  }
  static ProbeSpec spec(decltype(ProbeSpec::action) action) {
    ProbeSpec made;
    made.action = std::move(action);
    made.period = 5ms;
    made.timeout = 2s;
    return made;
  }
  // Stops the loop at the n-th result.
  Prober::OnResult until(std::size_t n) {
    return [this, n](const ProbeResult& result) {
      results_.push_back(result);
      if (results_.size() == n) loop_.stop();
    };
  }

  SystemClock clock_;
  Loop loop_;
  FakeRuntime runtime_;
  FakeHealth health_{loop_};
  metrics::Registry registry_;
  std::vector<ProbeResult> results_;
  Subscription limit_;
  Prober prober_{loop_, clock_, runtime_, health_, registry_};
};

const IpAddress kV4 = *IpAddress::parse("127.0.0.1");
const IpAddress kV6 = *IpAddress::parse("::1");

TEST_F(ProberTest, ReadinessFollowsTheServersStatus) {
  for (const auto& address : {kV4, kV6}) {
    results_.clear();
    Loop loop;
    Prober prober(loop, clock_, runtime_, health_, registry_);
    const Subscription limit = loop.after(20s, [&] { loop.stop(); });
    Server server(
        loop, address,
        {"HTTP/1.1 503 No\r\nContent-Length: 2\r\n\r\nno", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 Fine\r\n\r\n",
         "HTTP/1.0 302 Moved\r\n\r\n", "HTTP/1.1 400 Bad\r\n\r\n"});
    auto of = container();
    of.readiness = spec(HttpGet{address, server.port(), "/ready", {{"X-Who", "me"}}});
    of.readiness->failure_threshold = 2;
    prober.set(of, [&](const ProbeResult& result) {
      results_.push_back(result);
      if (results_.size() == 2) loop.stop();
    });
    loop.run();
    ASSERT_EQ(results_.size(), 2U);
    EXPECT_TRUE(results_[0].success);
    EXPECT_FALSE(results_[1].success);
    EXPECT_EQ(results_[1].message, "HTTP probe failed with statuscode: 400");
    ASSERT_EQ(server.requests().size(), 5U);  // 503 kept it unready; 302 is good; the first 400 is below the threshold
    EXPECT_TRUE(server.requests()[0].starts_with("GET /ready HTTP/1.1\r\n"));
    EXPECT_TRUE(server.requests()[0].contains("\r\nX-Who: me\r\n"));
  }
}

TEST_F(ProberTest, AGrpcServerSaysHowItIs) {
  auto of = container();
  of.liveness = spec(GrpcCheck{kV4, 9000, "db"});
  of.liveness->failure_threshold = 2;
  health_.services["db"] = fail(Code::kUnavailable, "service unhealthy (responded with \"NOT_SERVING\")");
  prober_.set(of, until(1));
  loop_.run();
  ASSERT_EQ(results_.size(), 1U);
  EXPECT_FALSE(results_[0].success);
  EXPECT_EQ(results_[0].message, "service unhealthy (responded with \"NOT_SERVING\")");
  ASSERT_EQ(health_.checks.size(), 2U);
  EXPECT_EQ(health_.checks[0].server.str(), "127.0.0.1:9000");
  EXPECT_EQ(health_.checks[0].timeout, 2s);
}

TEST_F(ProberTest, AnAnswerThatIsNotHttpOrNeverComesFails) {
  Server talks(loop_, kV4, {"220 mail ready\r\n"});
  Server silent(loop_, kV4, {""});
  auto of = container();
  of.liveness = spec(HttpGet{kV4, talks.port(), "/", {}});
  of.liveness->failure_threshold = 1;
  prober_.set(of, until(2));
  of.name = "other";
  of.liveness = spec(HttpGet{kV4, silent.port(), "/", {}});
  of.liveness->failure_threshold = 1;
  of.liveness->timeout = 30ms;
  prober_.set(of, until(2));
  loop_.run();
  ASSERT_EQ(results_.size(), 2U);
  EXPECT_EQ(results_[0].message, fmt::format("GET 127.0.0.1:{}: the answer is not HTTP/1", talks.port()));
  EXPECT_EQ(results_[1].message, fmt::format("GET 127.0.0.1:{}: no answer within 30 ms", silent.port()));
}

TEST_F(ProberTest, ALivenessFailureAsksOnceAndPausesUntilTheNextInstance) {
  std::optional<Server> server(std::in_place, loop_, kV4, std::vector<std::string>{""});
  const auto port = server->port();
  server.reset();  // nobody listens
  auto of = container();
  of.liveness = spec(TcpConnect{kV4, port});
  of.liveness->failure_threshold = 2;
  prober_.set(of, [&](const ProbeResult& result) {
    results_.push_back(result);
    if (results_.size() == 1) {
      prober_.set(of, until(9));  // the same again: still paused
      limit_ = loop_.after(60ms, [&] {
        of.id = "c2";
        prober_.set(of, until(2));
      });
    }
  });
  loop_.run();
  ASSERT_EQ(results_.size(), 2U);
  EXPECT_EQ(results_[0].container_id, "c1");
  EXPECT_EQ(results_[0].kind, ProbeKind::kLiveness);
  EXPECT_FALSE(results_[0].success);
  EXPECT_EQ(results_[0].message, fmt::format("dial tcp 127.0.0.1:{}: Connection refused", port));
  EXPECT_EQ(results_[1].container_id, "c2");
}

TEST_F(ProberTest, TheOthersWaitForTheStartupProbe) {
  Server server(loop_, kV4, {"HTTP/1.1 500 x\r\n\r\n", "HTTP/1.1 500 x\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"});
  Server ready(loop_, kV4, {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"});
  auto of = container();
  of.startup = spec(HttpGet{kV4, server.port(), "/", {}});
  of.readiness = spec(HttpGet{kV4, ready.port(), "/", {}});
  prober_.set(of, [&](const ProbeResult& result) {
    if (result.kind == ProbeKind::kStartup) {
      EXPECT_TRUE(ready.requests().empty());
    }
    until(2)(result);
  });
  loop_.run();
  ASSERT_EQ(results_.size(), 2U);
  EXPECT_EQ(results_[0].kind, ProbeKind::kStartup);
  EXPECT_EQ(results_[1].kind, ProbeKind::kReadiness);
  EXPECT_TRUE(results_[1].success);
  EXPECT_EQ(server.requests().size(), 3U);
}

TEST_F(ProberTest, ExecJudgesTheExitCodeAndDropsWhatSaysNothing) {
  auto of = container();
  of.readiness = spec(ExecCommand{{"cat", "/ready"}});
  of.readiness->failure_threshold = 1;
  of.readiness->timeout = 1500ms;
  of.was_ready = true;
  prober_.set(of, until(2));
  runtime_.on_exec = [&] {
    const std::size_t at = runtime_.requests.size() - 1;
    loop_.post([this, at] {
      const Result<int> answers[] = {fail(Code::kUnavailable, "away"), 0, 1, 0};
      runtime_.answer(at, answers[at]);
    });
  };
  loop_.run();
  ASSERT_EQ(results_.size(), 2U);
  EXPECT_FALSE(results_[0].success);
  EXPECT_EQ(results_[0].message, "command exited with 1: no such file");
  EXPECT_TRUE(results_[1].success);
  EXPECT_EQ(runtime_.requests[0].container_id(), "c1");
  EXPECT_EQ(runtime_.requests[0].timeout(), 2);
  EXPECT_EQ(runtime_.requests[0].cmd_size(), 2);
}

TEST_F(ProberTest, ExecsHaveALimitAndOneThatEndsLetsTheNextIn) {
  for (int i = 0; i < Prober::kExecLimit + 3; ++i) {
    auto of = container();
    of.name = std::to_string(i);
    of.readiness = spec(ExecCommand{{"true"}});
    of.readiness->period = 1h;
    prober_.set(of, until(Prober::kExecLimit + 3));
  }
  std::size_t most = 0;
  std::size_t answered = 0;
  runtime_.on_exec = [&] {
    most = std::max(most, runtime_.requests.size() - answered);
    if (runtime_.requests.size() != Prober::kExecLimit) return;
    loop_.post([&] {
      for (; answered < runtime_.waiting.size();) runtime_.answer(answered++, 0);
    });
  };
  loop_.run();
  EXPECT_EQ(results_.size(), Prober::kExecLimit + 3U);
  EXPECT_EQ(most, static_cast<std::size_t>(Prober::kExecLimit));
}

TEST_F(ProberTest, RemoveEndsAContainersProbes) {
  Server server(loop_, kV4, {"HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 500 x\r\n\r\n"});
  auto of = container();
  of.readiness = spec(HttpGet{kV4, server.port(), "/", {}});
  of.readiness->failure_threshold = 1;
  prober_.set(of, [&](const ProbeResult& result) {
    results_.push_back(result);
    prober_.remove("u1", "web");
    limit_ = loop_.after(40ms, [&] { loop_.stop(); });
  });
  loop_.run();
  EXPECT_EQ(results_.size(), 1U);
  EXPECT_EQ(server.requests().size(), 1U);
  EXPECT_EQ(prober_.size(), 0U);
}

}  // namespace
}  // namespace fairlead::pods
