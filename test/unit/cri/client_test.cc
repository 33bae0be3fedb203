// SPDX-License-Identifier: Apache-2.0
// Client against a runtime of our own over a real socket: what a healthy containerd never does on command.
#include "agent/cri/client.h"

#include <cri/v1.grpc.pb.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <latch>

#include "agent/cri/ready.h"

namespace fairlead::cri {
namespace {

using namespace std::chrono_literals;

// Answers Version after `version_calls` refusals, sends numbered events and ends the stream after each, hangs in
// Status when told so.
class FakeService final : public api::RuntimeService::Service {
 public:
  grpc::Status Version(grpc::ServerContext*, const api::VersionRequest*, api::VersionResponse* response) override {
    if (refusals.fetch_sub(1) > 0) return {grpc::StatusCode::UNAVAILABLE, "starting"};
    response->set_runtime_name("fake");
    response->set_runtime_version("1.2.3");
    response->set_runtime_api_version("v1");
    return grpc::Status::OK;
  }

  grpc::Status Status(grpc::ServerContext*, const api::StatusRequest*, api::StatusResponse* response) override {
    if (hang) {
      entered.count_down();
      release.wait();
      return grpc::Status::CANCELLED;
    }
    auto* ready = response->mutable_status()->add_conditions();
    ready->set_type("RuntimeReady");
    ready->set_status(runtime_ready);
    ready->set_reason("Broken");
    ready->set_message("no disk");
    return grpc::Status::OK;
  }

  grpc::Status StartContainer(grpc::ServerContext*, const api::StartContainerRequest* request,
                              api::StartContainerResponse*) override {
    return {static_cast<grpc::StatusCode>(std::stoi(request->container_id())), "the runtime's words"};
  }

  grpc::Status GetContainerEvents(grpc::ServerContext*, const api::GetEventsRequest*,
                                  grpc::ServerWriter<api::ContainerEventResponse>* writer) override {
    if (!events) return {grpc::StatusCode::UNIMPLEMENTED, "unknown method"};
    api::ContainerEventResponse event;
    event.set_container_id(std::to_string(++streams));
    writer->Write(event);
    return grpc::Status::OK;
  }

  std::atomic<int> refusals{0};
  std::atomic<int> streams{0};
  std::latch entered{1};  // a hanging Status has begun
  std::latch release{1};  // and may end
  bool hang = false;
  bool events = true;
  bool runtime_ready = true;
};

class ClientTest : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() / ("fl-cri-client-" + std::to_string(getpid()));
    std::filesystem::create_directories(folder_);
    endpoint_ = "unix://" + (folder_ / "s").string();
    server_ = grpc::ServerBuilder()
                  .AddListeningPort(endpoint_, grpc::InsecureServerCredentials())
                  .RegisterService(&service_)
                  .BuildAndStart();
    ASSERT_NE(server_, nullptr);
    client_ = std::move(Client::create(endpoint_)).value();
  }
  void TearDown() override {
    client_.reset();
    service_.release.count_down();
    server_->Shutdown(std::chrono::system_clock::now());
    std::filesystem::remove_all(folder_);
  }

  // Runs the loop until the call is answered.
  template <class Response, class Request>
  Result<Response> ask(Request request, Duration deadline = 10s) {
    std::optional<Result<Response>> answer;
    Loop& on = loop();
    client_->call(on, std::move(request), deadline, [&](Result<Response> result) {
      answer = std::move(result);
      on.stop();
    });
    on.run();
    return std::move(*answer);
  }
  Loop& loop() { return loop_.emplace(); }

  std::filesystem::path folder_;
  std::string endpoint_;
  FakeService service_;
  std::unique_ptr<grpc::Server> server_;
  std::optional<Loop> loop_;  // a stopped loop does not run again
  std::unique_ptr<Client> client_;
};

TEST_F(ClientTest, AnswersOnTheCallersLoop) {
  const auto version = ask<api::VersionResponse>(api::VersionRequest());
  ASSERT_TRUE(version) << version.error().message();
  EXPECT_EQ(version->runtime_name(), "fake");
}

TEST_F(ClientTest, CodesAreMappedAndCarryCallAndWords) {
  const std::pair<grpc::StatusCode, Code> cases[] = {
      {grpc::StatusCode::UNAVAILABLE, Code::kUnavailable},      {grpc::StatusCode::DEADLINE_EXCEEDED, Code::kTimeout},
      {grpc::StatusCode::NOT_FOUND, Code::kNotFound},           {grpc::StatusCode::ALREADY_EXISTS, Code::kExists},
      {grpc::StatusCode::INVALID_ARGUMENT, Code::kInvalid},     {grpc::StatusCode::UNIMPLEMENTED, Code::kInvalid},
      {grpc::StatusCode::RESOURCE_EXHAUSTED, Code::kExhausted}, {grpc::StatusCode::PERMISSION_DENIED, Code::kDenied},
      {grpc::StatusCode::FAILED_PRECONDITION, Code::kConflict}, {grpc::StatusCode::UNKNOWN, Code::kSystem},
  };
  for (const auto& [status, code] : cases) {
    api::StartContainerRequest request;
    request.set_container_id(std::to_string(status));
    const auto answer = ask<api::StartContainerResponse>(std::move(request));
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code, code) << status;
    EXPECT_EQ(answer.error().message(), "CRI StartContainer: the runtime's words");
  }
}

TEST_F(ClientTest, ADeadlineEndsACall) {
  service_.hang = true;
  const auto status = ask<api::StatusResponse>(api::StatusRequest(), 50ms);
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Code::kTimeout);
}

TEST_F(ClientTest, DestructionCancelsWhatIsInFlight) {
  service_.hang = true;
  std::optional<Code> code;
  Loop& on = loop();
  client_->call(on, api::StatusRequest(), 1min,
                [&](Result<api::StatusResponse> result) { code = result.error().code; });
  service_.entered.wait();
  client_.reset();
  on.poll();
  EXPECT_EQ(code, Code::kCancelled);
}

TEST_F(ClientTest, ABrokenEventStreamIsOpenedAgain) {
  std::vector<std::string> seen;
  int broken = 0;
  Loop& on = loop();
  client_->follow_events(
      on,
      [&](const api::ContainerEventResponse& event) {
        seen.push_back(event.container_id());
        if (seen.size() == 3) on.stop();
      },
      [&](Client::StreamEnd end, const Error& error) {
        EXPECT_EQ(end, Client::StreamEnd::kBroken);
        EXPECT_EQ(error.code, Code::kUnavailable);
        ++broken;
      });
  on.run();
  EXPECT_EQ(seen, (std::vector<std::string>{"1", "2", "3"}));
  EXPECT_GE(broken, 2);
}

TEST_F(ClientTest, ARuntimeWithoutEventsIsToldOnce) {
  service_.events = false;
  std::vector<std::pair<Client::StreamEnd, std::string>> ends;
  Loop& on = loop();
  Subscription later;
  client_->follow_events(
      on, [](const auto&) { FAIL(); },
      [&](Client::StreamEnd end, const Error& error) {
        ends.emplace_back(end, error.message());
        later = on.after(400ms, [&] { on.stop(); });  // over the first back-off
      });
  on.run();
  EXPECT_EQ(ends, (std::vector<std::pair<Client::StreamEnd, std::string>>{
                      {Client::StreamEnd::kUnsupported, "CRI GetContainerEvents: unknown method"}}));
}

TEST_F(ClientTest, ReadyCheckWaitsForARuntimeThatStarts) {
  service_.refusals = 2;
  SystemClock clock;
  std::optional<Result<RuntimeInfo>> info;
  Loop& on = loop();
  const ReadyCheck check(*client_, on, clock, 10s, [&](Result<RuntimeInfo> result) {
    info = std::move(result);
    on.stop();
  });
  on.run();
  ASSERT_TRUE(*info) << info->error().message();
  EXPECT_EQ((*info)->name, "fake");
  EXPECT_EQ((*info)->api_version, "v1");
  EXPECT_FALSE((*info)->network_ready);
  EXPECT_EQ((*info)->network_message, "the condition is not reported");
}

TEST_F(ClientTest, ReadyCheckGivesUpWithTheRuntimesReason) {
  service_.runtime_ready = false;
  SystemClock clock;
  std::optional<Result<RuntimeInfo>> info;
  Loop& on = loop();
  const ReadyCheck check(*client_, on, clock, 300ms, [&](Result<RuntimeInfo> result) {
    info = std::move(result);
    on.stop();
  });
  on.run();
  ASSERT_FALSE(*info);
  EXPECT_EQ(info->error().message(), "the container runtime: fake 1.2.3 is not ready: Broken: no disk");
}

TEST(ClientCreate, WantsAnAbsoluteUnixSocket) {
  for (const std::string endpoint : {"", "unix://run/x.sock", "unix:///", "/run/x.sock", "http://localhost:1"}) {
    const auto client = Client::create(endpoint);
    ASSERT_FALSE(client) << endpoint;
    EXPECT_EQ(client.error().code, Code::kInvalid);
  }
  EXPECT_FALSE(Client::create("unix:///" + std::string(108, 'a')));
}

}  // namespace
}  // namespace fairlead::cri
