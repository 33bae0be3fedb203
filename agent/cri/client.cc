// SPDX-License-Identifier: Apache-2.0
#include "agent/cri/client.h"

#include <cri/v1.grpc.pb.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "agent/base/in_flight.h"

namespace fairlead::cri {

namespace {

using namespace std::chrono_literals;

constexpr int kMaxMessageBytes = 16 << 20;  // as kubelet's: a list of every container of a full node fits
constexpr Duration kFirstReopen = 250ms;
constexpr Duration kLastReopen = 16s;

template <class Request>
constexpr bool kIsImageCall =
    std::is_same_v<Request, api::ImageStatusRequest> || std::is_same_v<Request, api::ListImagesRequest> ||
    std::is_same_v<Request, api::PullImageRequest>;

Code code_of(grpc::StatusCode code) {
  switch (code) {
    case grpc::StatusCode::UNAVAILABLE:
      return Code::kUnavailable;
    case grpc::StatusCode::DEADLINE_EXCEEDED:
      return Code::kTimeout;
    case grpc::StatusCode::NOT_FOUND:
      return Code::kNotFound;
    case grpc::StatusCode::ALREADY_EXISTS:
      return Code::kExists;
    case grpc::StatusCode::INVALID_ARGUMENT:
    case grpc::StatusCode::OUT_OF_RANGE:
    case grpc::StatusCode::UNIMPLEMENTED:
      return Code::kInvalid;
    case grpc::StatusCode::RESOURCE_EXHAUSTED:
      return Code::kExhausted;
    case grpc::StatusCode::PERMISSION_DENIED:
    case grpc::StatusCode::UNAUTHENTICATED:
      return Code::kDenied;
    case grpc::StatusCode::ABORTED:
    case grpc::StatusCode::FAILED_PRECONDITION:
      return Code::kConflict;
    case grpc::StatusCode::CANCELLED:
      return Code::kCancelled;
    default:
      return Code::kSystem;
  }
}

// A runtime knows the call's deadline, too, and may be the first to see it pass: it then fails in words of its own.
Error error_of(std::string_view name, const grpc::Status& status,
               std::chrono::system_clock::time_point deadline = std::chrono::system_clock::time_point::max()) {
  const bool late = status.error_code() == grpc::StatusCode::UNKNOWN && std::chrono::system_clock::now() >= deadline;
  return {late ? Code::kTimeout : code_of(status.error_code()), fmt::format("CRI {}: {}", name, status.error_message()),
          0};
}

}  // namespace

// The channel's last holder joins gRPC's callback threads, so it must never be one of them: a callback gives up what
// holds the channel (a stub, a ClientContext) before it ends its entry in `in_flight`, for which ~Client waits.
struct Client::Core {
  std::unique_ptr<api::RuntimeService::Stub> runtime;
  std::unique_ptr<api::ImageService::Stub> images;
  std::shared_ptr<InFlight> in_flight = std::make_shared<InFlight>();
};

namespace {

// One unary call: alive until gRPC's callback has run.
template <class Request, class Response>
struct Unary {
  grpc::ClientContext context;
  Request request;
  Response response;
  Done<Response> done;
};

// Starts `invoke(stub, call, on_status)` as a tracked call whose outcome is posted to `loop`.
template <class Core, class Request, class Response, class Invoke>
void start(Core& core, std::string_view name, Loop& loop, Request request, Duration deadline, Done<Response> done,
           Invoke invoke) {
  auto call = std::make_shared<Unary<Request, Response>>();
  call->request = std::move(request);
  call->done = std::move(done);
  call->context.set_deadline(std::chrono::system_clock::now() +
                             std::chrono::duration_cast<std::chrono::system_clock::duration>(deadline));
  const auto id = core.in_flight->begin([call] { call->context.TryCancel(); });
  if (!id) {
    loop.post(
        [done = std::move(call->done), name] { done(fail(Code::kCancelled, "CRI {}: the client is closing", name)); });
    return;
  }
  auto on_status = [in_flight = core.in_flight, call, name, &loop, id = *id](const grpc::Status& status) mutable {
    // `done` goes to the loop: what it captured is never destroyed here.
    if (status.ok()) {
      loop.post([done = std::move(call->done), response = std::move(call->response)]() mutable {
        done(std::move(response));
      });
    } else {
      loop.post([done = std::move(call->done), error = error_of(name, status, call->context.deadline())]() mutable {
        done(std::unexpected(std::move(error)));
      });
    }
    call.reset();
    in_flight->end(id);
  };
  if constexpr (kIsImageCall<Request>) {
    invoke(core.images->async(), *call, std::move(on_status));
  } else {
    invoke(core.runtime->async(), *call, std::move(on_status));
  }
}

}  // namespace

#define FL_CRI_DEFINE(Name)                                                                                      \
  void Client::call(Loop& loop, api::Name##Request request, Duration deadline, Done<api::Name##Response> done) { \
    start(*core_, #Name, loop, std::move(request), deadline, std::move(done),                                    \
          [](auto* stub, auto& call, auto on_status) {                                                           \
            stub->Name(&call.context, &call.request, &call.response, std::move(on_status));                      \
          });                                                                                                    \
  }
FL_CRI_CALLS(FL_CRI_DEFINE)
#undef FL_CRI_DEFINE

// The event stream and its reopening. Thread: the loop, but for Stream, whose reactions run on gRPC's threads and only
// post. Events are posted as they come: a node's containers make few, and a follower must not lose one.
class Client::Follower : public std::enable_shared_from_this<Follower> {
 public:
  Follower(std::shared_ptr<Core> core, Loop& loop, std::function<void(api::ContainerEventResponse)> event,
           std::function<void(StreamEnd, Error)> ended)
      : core_(std::move(core)), loop_(loop), event_(std::move(event)), ended_(std::move(ended)) {}

  void open() {
    auto stream = std::make_shared<Stream>(weak_from_this(), core_, loop_);
    const auto id = core_->in_flight->begin([stream] { stream->context.TryCancel(); });
    if (!id) return;
    stream->start(*id);
  }

 private:
  struct Stream final : grpc::ClientReadReactor<api::ContainerEventResponse> {
    Stream(std::weak_ptr<Follower> to, std::shared_ptr<Core> with, Loop& on)
        : owner(std::move(to)), core(std::move(with)), loop(on) {}

    void start(InFlight::Id call_id) {
      id = call_id;
      core->runtime->async()->GetContainerEvents(&context, &request, this);
      StartRead(&event);
      StartCall();
    }

    void OnReadDone(bool ok) override {
      if (!ok) return;  // OnDone follows with the reason
      loop.post([to = owner, item = std::move(event)]() mutable {
        if (const auto follower = to.lock()) follower->on_event(std::move(item));
      });
      event.Clear();
      StartRead(&event);
    }

    void OnDone(const grpc::Status& status) override {
      loop.post([to = owner, status] {
        if (const auto follower = to.lock()) follower->on_end(status);
      });
      // What end() lets go of is the last that holds this stream.
      const auto in_flight = core->in_flight;
      in_flight->end(id);
    }

    std::weak_ptr<Follower> owner;
    std::shared_ptr<Core> core;
    Loop& loop;
    grpc::ClientContext context;
    api::GetEventsRequest request;
    api::ContainerEventResponse event;
    InFlight::Id id = 0;
  };

  void on_event(api::ContainerEventResponse event) {
    reopen_after_ = kFirstReopen;
    event_(std::move(event));
  }

  void on_end(const grpc::Status& status) {
    if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED) {
      ended_(StreamEnd::kUnsupported, error_of("GetContainerEvents", status));
      return;
    }
    reopen_ = loop_.after(reopen_after_, [this] { open(); });
    reopen_after_ = std::min(2 * reopen_after_, kLastReopen);
    // A runtime that shuts down ends the stream with OK.
    ended_(StreamEnd::kBroken, status.ok()
                                   ? Error{Code::kUnavailable, "CRI GetContainerEvents: the runtime ended it", 0}
                                   : error_of("GetContainerEvents", status));
  }

  std::shared_ptr<Core> core_;
  Loop& loop_;
  std::function<void(api::ContainerEventResponse)> event_;
  std::function<void(StreamEnd, Error)> ended_;
  Duration reopen_after_ = kFirstReopen;
  Subscription reopen_;
};

Result<std::unique_ptr<Client>> Client::create(const std::string& endpoint) {
  constexpr std::string_view kScheme = "unix://";
  // A relative path would become an authority and fail far from here.
  if (!endpoint.starts_with("unix:///") || endpoint.size() == kScheme.size() + 1) {
    return fail(Code::kInvalid, "runtime endpoint '{}': want unix:///absolute/path", endpoint);
  }
  if (endpoint.size() - kScheme.size() > 107) {  // sun_path, NUL included, is 108 bytes
    return fail(Code::kInvalid, "runtime endpoint '{}': a socket path has at most 107 bytes", endpoint);
  }
  grpc::ChannelArguments arguments;
  arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
  arguments.SetMaxSendMessageSize(kMaxMessageBytes);
  // A runtime that restarts is away for a second or two; gRPC's own back-off grows to two minutes.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
  const auto channel = grpc::CreateCustomChannel(endpoint, grpc::InsecureChannelCredentials(), arguments);
  auto core = std::make_shared<Core>();
  core->runtime = api::RuntimeService::NewStub(channel);
  core->images = api::ImageService::NewStub(channel);
  return std::unique_ptr<Client>(new Client(std::move(core)));
}

Client::Client(std::shared_ptr<Core> core) : core_(std::move(core)) {}

Client::~Client() {
  follower_.reset();
  core_->in_flight->close();
}

void Client::follow_events(Loop& loop, std::function<void(api::ContainerEventResponse)> event,
                           std::function<void(StreamEnd, Error)> ended) {
  follower_ = std::make_shared<Follower>(core_, loop, std::move(event), std::move(ended));
  follower_->open();
}

}  // namespace fairlead::cri
