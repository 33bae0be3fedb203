// SPDX-License-Identifier: Apache-2.0
#include "agent/health/client.h"

#include <grpcpp/create_channel.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/impl/codegen/proto_utils.h>
#include <health/v1.pb.h>

#include <chrono>

namespace fairlead::health {
namespace {

namespace api = grpc::health::v1;

constexpr auto kMethod = "/grpc.health.v1.Health/Check";
constexpr auto kUserAgent = "kube-probe/1.37";
constexpr int kMaxAnswerBytes = 64 << 10;

std::shared_ptr<grpc::Channel> connect(const SocketAddress& server) {
  grpc::ChannelArguments arguments;
  arguments.SetUserAgentPrefix(kUserAgent);
  arguments.SetMaxReceiveMessageSize(kMaxAnswerBytes);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // else the connection of the last check
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);
  arguments.SetServiceConfigJSON("{}");
  return grpc::CreateCustomChannel((server.address.is_v4() ? "ipv4:" : "ipv6:") + server.str(),
                                   grpc::InsecureChannelCredentials(), arguments);
}

}  // namespace

struct Client::Call {
  explicit Call(const Check& what)
      : check(what), stub(connect(what.server)), deadline(std::chrono::system_clock::now() + what.timeout) {}

  // What the answer means.
  Result<> judge() const;

  Check check;
  grpc::GenericStub stub;
  std::chrono::system_clock::time_point deadline;
  grpc::ClientContext context;
  grpc::ByteBuffer request;
  grpc::ByteBuffer answer;
  grpc::Status status;
  Done done;
};

Result<> Client::Call::judge() const {
  const std::string& server = check.server.str();
  switch (status.error_code()) {
    case grpc::StatusCode::OK:
      break;
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return fail(Code::kTimeout, "timeout: health rpc to {} did not complete within {} s", server,
                  std::chrono::duration<double>(check.timeout).count());
    case grpc::StatusCode::UNIMPLEMENTED:
      return fail(Code::kUnavailable,
                  "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
                  status.error_message());
    default:
      return fail(Code::kUnavailable, "error: health rpc probe of {} failed: {}", server, status.error_message());
  }
  api::HealthCheckResponse response;
  grpc::ByteBuffer bytes(answer);  // reading takes it apart
  if (!grpc::GenericDeserialize<grpc::ProtoBufferReader, api::HealthCheckResponse>(&bytes, &response).ok()) {
    return fail(Code::kUnavailable, "error: health rpc probe of {} failed: the answer is no HealthCheckResponse",
                server);
  }
  if (response.status() == api::HealthCheckResponse::SERVING) return {};
  const std::string& name = api::HealthCheckResponse::ServingStatus_Name(response.status());
  return fail(Code::kUnavailable, "service unhealthy (responded with \"{}\")",
              name.empty() ? std::to_string(response.status()) : name);
}

Client::Client(Loop& loop) : loop_(loop), alive_(std::make_shared<Client*>(this)) {}

Client::~Client() {
  alive_.reset();
  for (auto& [number, call] : calls_) call->context.TryCancel();
  in_flight_->close();
}

void Client::check(const Check& check, Done done) {
  const std::uint64_t number = ++made_;
  Call& call = *(calls_[number] = std::make_unique<Call>(check));
  call.done = std::move(done);
  call.context.set_deadline(call.deadline);
  api::HealthCheckRequest request;
  request.set_service(check.service);
  bool own_buffer = false;
  (void)grpc::GenericSerialize<grpc::ProtoBufferWriter, api::HealthCheckRequest>(request, &call.request, &own_buffer);
  const auto id = in_flight_->begin([] {});  // the destructor, which alone closes it, cancels by itself
  call.stub.UnaryCall(&call.context, kMethod, {}, &call.request, &call.answer,
                      [&call, number, id = *id, in_flight = in_flight_, &loop = loop_,
                       alive = std::weak_ptr(alive_)](grpc::Status status) {
                        call.status = std::move(status);
                        loop.post([alive, number] {
                          if (const auto self = alive.lock()) (*self)->ended(number);
                        });
                        in_flight->end(id);
                      });
}

void Client::ended(std::uint64_t number) {
  const auto call = calls_.extract(number);
  if (!call.empty()) call.mapped()->done(call.mapped()->judge());
}

}  // namespace fairlead::health
