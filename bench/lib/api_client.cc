// SPDX-License-Identifier: Apache-2.0
#include "bench/lib/api_client.h"

#include <k8s/meta.pb.h>

#include <algorithm>
#include <future>
#include <optional>
#include <utility>

#include "agent/kube/api/kubeconfig.h"
#include "agent/kube/api/wire.h"

namespace fairlead::bench {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kAgain = std::chrono::milliseconds(20);

// Cuts what comes into lines.
class Lines {
 public:
  explicit Lines(std::function<void(const std::string&, Moment)> line) : line_(std::move(line)) {}
  void feed(std::string_view bytes) {
    const Moment now = Clock::now();
    rest_.append(bytes);
    std::size_t at = 0;
    for (auto end = rest_.find('\n'); end != rest_.npos; end = rest_.find('\n', at)) {
      line_(rest_.substr(at, end - at), now);
      at = end + 1;
    }
    rest_.erase(0, at);
  }

 private:
  std::function<void(const std::string&, Moment)> line_;
  std::string rest_;
};

}  // namespace

kube::HttpRequest write_request(const std::string& method, const std::string& path, const std::string& api_version,
                                const std::string& kind, const google::protobuf::MessageLite& object) {
  k8s::Unknown wrapped;
  wrapped.mutable_typemeta()->set_apiversion(api_version);
  wrapped.mutable_typemeta()->set_kind(kind);
  object.SerializeToString(wrapped.mutable_raw());
  kube::HttpRequest request;
  request.method = method;
  request.path = path + "?fieldManager=kube-controller-manager";
  request.headers = {fmt::format("Content-Type: {}", kube::kProtobufType),
                     fmt::format("Accept: {}", kube::kProtobufType)};
  request.body = std::string("k8s\0", 4) + wrapped.SerializeAsString();
  return request;
}

Result<std::unique_ptr<ApiClient>> ApiClient::open(const std::filesystem::path& kubeconfig) {
  FL_LET(auto access, kube::read_kubeconfig(kubeconfig));
  std::unique_ptr<ApiClient> client(new ApiClient);
  client->http_ = std::make_unique<kube::HttpClient>(client->thread_.loop(), std::move(access));
  client->thread_.start();
  return client;
}

ApiClient::~ApiClient() {
  thread_.join();
}

Result<ApiClient::Answer> ApiClient::send(kube::HttpRequest request) {
  std::promise<Result<Answer>> promise;
  auto answer = promise.get_future();
  thread_.loop().post([&] {
    http_->send(request, [&](Result<kube::HttpResponse> response) {
      const Moment now = Clock::now();
      if (response) {
        if (auto status = kube::check_status(request, *response); !status) {
          return promise.set_value(std::unexpected(std::move(status).error()));
        }
      }
      promise.set_value(response ? Result<Answer>(Answer{std::move(response->body), now})
                                 : std::unexpected(std::move(response).error()));
    });
  });
  return answer.get();
}

Result<> ApiClient::send_all(std::size_t count, std::size_t at_once,
                             const std::function<kube::HttpRequest(std::size_t)>& make) {
  std::promise<Result<>> promise;
  auto done = promise.get_future();
  std::size_t next = 0;
  std::size_t open = 0;
  std::optional<Error> error;
  std::function<void()> begin = [&] {
    ++open;
    const kube::HttpRequest request = make(next++);
    http_->send(request, [&, request](Result<kube::HttpResponse> response) {
      --open;
      Result<> status = response ? kube::check_status(request, *response) : std::unexpected(response.error());
      if (!status && !error) error = std::move(status).error();
      if (next < count && !error) return begin();
      if (open == 0) promise.set_value(error ? Result<>(std::unexpected(*error)) : Result<>());
    });
  };
  if (count == 0) return {};
  thread_.loop().post([&] {
    for (std::size_t i = 0; i < std::min(at_once, count); ++i) begin();
  });
  return done.get();
}

void ApiClient::on_thread(const std::function<void()>& task) {
  std::promise<void> promise;
  thread_.loop().post([&] {
    task();
    promise.set_value();
  });
  promise.get_future().wait();
}

void ApiClient::watch(const std::string& path, const std::function<void(const std::string&, Moment)>& line) {
  thread_.loop().post([this, path, line] { follow(path, line); });
}

void ApiClient::follow(const std::string& path, const std::function<void(const std::string&, Moment)>& line) {
  kube::HttpRequest request;
  request.path = path;
  request.timeout = {};
  auto lines = std::make_shared<Lines>(line);
  http_->send(
      request,
      [this, path, line](const Result<kube::HttpResponse>&) {
        again_ = thread_.loop().after(kAgain, [this, path, line] { follow(path, line); });
      },
      [lines](std::string_view bytes) {
        lines->feed(bytes);
        return true;
      });
}

}  // namespace fairlead::bench
