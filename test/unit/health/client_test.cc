// SPDX-License-Identifier: Apache-2.0
// The health client against gRPC's own servers on loopback.
#include "agent/health/client.h"

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <optional>

#include "agent/base/unique_fd.h"

namespace fairlead::health {
namespace {

using namespace std::chrono_literals;

// A port of this machine's, of which gRPC knows nothing.
struct Bound {
  UniqueFd fd{socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  int port = 0;

  Bound() {
    sockaddr_in address{.sin_family = AF_INET, .sin_port = 0, .sin_addr = {htonl(INADDR_LOOPBACK)}, .sin_zero = {}};
    socklen_t size = sizeof address;
    EXPECT_EQ(bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size), 0);
    getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size);
    port = ntohs(address.sin_port);
  }
};

class HealthClientTest : public testing::Test {
 protected:
  Loop loop;
  Client client{loop};

  static SocketAddress at(int port) { return {IpAddress::from_v4({127, 0, 0, 1}), static_cast<std::uint16_t>(port)}; }

  // A server on a port of its own; `healthy`: it has the health service, which says that all is well.
  int serve(bool healthy, const std::string& address = "127.0.0.1") {
    int port = 0;
    grpc::ServerBuilder builder;
    builder.AddListeningPort(address + ":0", grpc::InsecureServerCredentials(), &port);
    grpc::EnableDefaultHealthCheckService(healthy);
    builder.RegisterCallbackGenericService(&nothing_);
    server_ = builder.BuildAndStart();
    return port;
  }
  Result<> check(const SocketAddress& server, const std::string& service = "", Duration timeout = 10s) {
    std::optional<Result<>> answer;
    client.check({server, service, timeout}, [&](Result<> result) { answer = std::move(result); });
    EXPECT_FALSE(answer) << "never from within the call";
    while (!answer) loop.poll();
    return *answer;
  }
  std::string why(const SocketAddress& server, const std::string& service = "", Duration timeout = 10s) {
    const auto result = check(server, service, timeout);
    return result ? "healthy" : result.error().message();
  }

  grpc::CallbackGenericService nothing_;  // knows no method
  std::unique_ptr<grpc::Server> server_;
};

TEST_F(HealthClientTest, AServerThatServesIsHealthy) {
  const int port = serve(true);
  EXPECT_EQ(why(at(port)), "healthy");
  server_->GetHealthCheckService()->SetServingStatus("db", true);
  EXPECT_EQ(why(at(port), "db"), "healthy");
  server_->GetHealthCheckService()->SetServingStatus("db", false);
  EXPECT_EQ(why(at(port), "db"), "service unhealthy (responded with \"NOT_SERVING\")");
  EXPECT_EQ(why(at(port)), "healthy");
}

TEST_F(HealthClientTest, AlsoOverIPv6) {
  const int port = serve(true, "[::1]");
  EXPECT_EQ(why({IpAddress::parse("::1").value(), static_cast<std::uint16_t>(port)}), "healthy");
}

TEST_F(HealthClientTest, AServiceThatIsNotThereIsNot) {
  const auto result = why(at(serve(true)), "none");
  EXPECT_TRUE(result.starts_with("error: health rpc probe of 127.0.0.1:")) << result;
}

TEST_F(HealthClientTest, AServerWithoutHealthIsToldApart) {
  EXPECT_TRUE(why(at(serve(false))).starts_with("error: this server does not implement the grpc health protocol"));
}

TEST_F(HealthClientTest, NobodyThere) {
  const Bound deaf;
  const auto result = check(at(deaf.port));
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Code::kUnavailable) << result.error().message();
}

TEST_F(HealthClientTest, AServerThatSaysNothingIsNotWaitedForLongerThanAsked) {
  const Bound silent;
  ASSERT_EQ(listen(silent.fd.get(), 1), 0);
  const auto result = check(at(silent.port), "", 100ms);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, Code::kTimeout);
  EXPECT_TRUE(result.error().message().contains("did not complete within 0.1 s")) << result.error().message();
}

TEST_F(HealthClientTest, NothingAnswersAfterTheClientsEnd) {
  const Bound silent;
  ASSERT_EQ(listen(silent.fd.get(), 1), 0);
  bool answered = false;
  {
    Client other(loop);
    other.check({at(silent.port), "", 1h}, [&](const Result<>&) { answered = true; });
  }
  loop.poll();
  EXPECT_FALSE(answered);
}

}  // namespace
}  // namespace fairlead::health
