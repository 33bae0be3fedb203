// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/api/http.h"

#include <curl/curl.h>
#include <k8s/meta.pb.h>

#include <charconv>
#include <nlohmann/json.hpp>

#include "agent/base/log.h"
#include "agent/kube/api/wire.h"

namespace fairlead::kube {
namespace {

long to_ms(Duration duration) {
  return static_cast<long>(std::chrono::duration_cast<std::chrono::milliseconds>(duration).count());
}

struct EasyCleanup {
  void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
};
struct ListCleanup {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

// Sets one option; our options are constants, so a refusal is a bug of ours and is logged as one.
template <class T>
void set(CURL* easy, CURLoption option, T value) {
  if (const CURLcode code = curl_easy_setopt(easy, option, value); code != CURLE_OK) {
    log::error("http", "curl refused an option",
               {{"option", static_cast<int>(option)}, {"error", curl_easy_strerror(code)}});
  }
}

void set_blob(CURL* easy, CURLoption option, const std::string& pem) {
  curl_blob blob{const_cast<char*>(pem.data()), pem.size(), CURL_BLOB_COPY};
  set(easy, option, &blob);
}

// What the API's Status object in an error's body says, in either form; else the body's beginning.
std::string message_of(const std::string& body) {
  if (const auto raw = unwrap_object(body)) {
    k8s::Status status;
    if (status.ParseFromString(*raw)) return status.message();
  }
  const auto json = nlohmann::json::parse(body, nullptr, false);
  return json.is_object() ? json.value("message", std::string()) : body.substr(0, 300);
}

}  // namespace

struct HttpClient::Exchange {
  HttpRequest request;
  Done done;
  OnData on_data;
  HttpResponse response;
  std::string url;
  bool refused_by_reader = false;
  std::unique_ptr<CURL, EasyCleanup> easy{curl_easy_init()};
  std::unique_ptr<curl_slist, ListCleanup> headers;
  char error[CURL_ERROR_SIZE] = {};

  static std::size_t on_body(char* bytes, std::size_t, std::size_t size, void* self);
  static std::size_t on_header(char* bytes, std::size_t, std::size_t size, void* self);
  Error failure(CURLcode code) const;
};

struct HttpClient::Impl {
  Loop& loop;
  ClusterAccess access;
  CURLM* multi = curl_multi_init();
  std::map<curl_socket_t, Subscription> sockets;
  Subscription timer;
  std::map<CURL*, std::unique_ptr<Exchange>> running;

  Impl(Loop& l, ClusterAccess a) : loop(l), access(std::move(a)) {
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, &Impl::on_socket);
    curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, this);
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, &Impl::on_timer);
    curl_multi_setopt(multi, CURLMOPT_TIMERDATA, this);
    curl_multi_setopt(multi, CURLMOPT_PIPELINING, CURLPIPE_MULTIPLEX);
  }

  ~Impl() {
    timer.cancel();
    for (auto& [easy, exchange] : running) curl_multi_remove_handle(multi, easy);
    running.clear();
    curl_multi_cleanup(multi);
  }

  // curl tells which descriptors to watch, and when to wake it.
  static int on_socket(CURL*, curl_socket_t fd, int what, void* self_pointer, void*) {
    auto* self = static_cast<Impl*>(self_pointer);
    self->sockets.erase(fd);
    if (what == CURL_POLL_REMOVE || what == CURL_POLL_NONE) return 0;
    const Loop::Ready ready = what == CURL_POLL_IN    ? Loop::Ready::kRead
                              : what == CURL_POLL_OUT ? Loop::Ready::kWrite
                                                      : Loop::Ready::kReadOrWrite;
    self->sockets[fd] = self->loop.watch(fd, ready, [self, fd] { self->act(fd); });
    return 0;
  }
  static int on_timer(CURLM*, long wait_ms, void* self_pointer) {
    auto* self = static_cast<Impl*>(self_pointer);
    self->timer.cancel();
    if (wait_ms >= 0) {
      self->timer = self->loop.after(std::chrono::milliseconds(wait_ms), [self] { self->act(CURL_SOCKET_TIMEOUT); });
    }
    return 0;
  }

  void act(curl_socket_t fd) {
    int still_running = 0;
    curl_multi_socket_action(multi, fd, 0, &still_running);
    collect();
  }

  void collect() {
    int left = 0;
    while (CURLMsg* message = curl_multi_info_read(multi, &left)) {
      if (message->msg == CURLMSG_DONE) finish(message->easy_handle, message->data.result);
    }
  }

  void finish(CURL* easy, CURLcode code) {
    auto node = running.extract(easy);
    curl_multi_remove_handle(multi, easy);
    Exchange& exchange = *node.mapped();
    // `done` may start the next exchange, or end this client: nothing of ours is touched after it.
    Done done = std::move(exchange.done);
    if (code == CURLE_OK) {
      curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &exchange.response.status);
      loop.post(
          [done = std::move(done), response = std::move(exchange.response)]() mutable { done(std::move(response)); });
    } else {
      loop.post([done = std::move(done), error = exchange.failure(code)]() mutable {
        done(std::unexpected(std::move(error)));
      });
    }
  }
};

std::size_t HttpClient::Exchange::on_body(char* bytes, std::size_t, std::size_t size, void* self_pointer) {
  auto* self = static_cast<Exchange*>(self_pointer);
  long status = 0;
  curl_easy_getinfo(self->easy.get(), CURLINFO_RESPONSE_CODE, &status);
  if (self->on_data && status < 300) {
    if (self->on_data({bytes, size})) return size;
    self->refused_by_reader = true;
    return 0;
  }
  self->response.body.append(bytes, size);
  return size;
}

std::size_t HttpClient::Exchange::on_header(char* bytes, std::size_t, std::size_t size, void* self_pointer) {
  auto* self = static_cast<Exchange*>(self_pointer);
  constexpr std::string_view kName = "retry-after:";
  const std::string_view line(bytes, size);
  if (line.size() > kName.size() && curl_strnequal(line.data(), kName.data(), kName.size()) != 0) {
    std::string_view value = line.substr(kName.size());
    while (!value.empty() && value.front() == ' ') value.remove_prefix(1);
    unsigned seconds = 0;
    std::from_chars(value.data(), value.data() + value.size(), seconds);
    self->response.retry_after = std::chrono::seconds(seconds);
  }
  return size;
}

Error HttpClient::Exchange::failure(CURLcode code) const {
  Error failure;
  failure.code = code == CURLE_OPERATION_TIMEDOUT                               ? Code::kTimeout
                 : refused_by_reader                                            ? Code::kCancelled
                 : code == CURLE_PEER_FAILED_VERIFICATION                       ? Code::kDenied
                 : code == CURLE_URL_MALFORMAT || code == CURLE_SSL_CERTPROBLEM ? Code::kInvalid
                                                                                : Code::kUnavailable;
  failure.what = fmt::format("{} {}: {}", request.method, url, error[0] != '\0' ? error : curl_easy_strerror(code));
  return failure;
}

HttpClient::HttpClient(Loop& loop, ClusterAccess access) : impl_(std::make_unique<Impl>(loop, std::move(access))) {}
HttpClient::~HttpClient() = default;

void HttpClient::send(HttpRequest request, Done done, OnData on_data) {
  auto exchange = std::make_unique<Exchange>();
  const ClusterAccess& access = impl_->access;
  Exchange& e = *exchange;
  e.request = std::move(request);
  e.done = std::move(done);
  e.on_data = std::move(on_data);
  e.url = access.server + e.request.path;

  Result<std::string> token = access.bearer_token();
  if (!token) {
    impl_->loop.post([done = std::move(e.done), error = std::move(token).error()]() mutable {
      done(std::unexpected(std::move(error)));
    });
    return;
  }
  CURL* easy = e.easy.get();
  const auto header = [&](const std::string& line) {
    e.headers.reset(curl_slist_append(e.headers.release(), line.c_str()));
  };
  for (const std::string& line : e.request.headers) header(line);
  header("User-Agent: fairlead-agent");
  if (!token->empty()) header("Authorization: Bearer " + *token);

  set(easy, CURLOPT_URL, e.url.c_str());
  set(easy, CURLOPT_CUSTOMREQUEST, e.request.method.c_str());
  set(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_2TLS));
  set(easy, CURLOPT_PIPEWAIT, 1L);
  set(easy, CURLOPT_NOSIGNAL, 1L);
  set(easy, CURLOPT_CONNECTTIMEOUT_MS, 10'000L);
  set(easy, CURLOPT_TCP_KEEPALIVE, 1L);
  set(easy, CURLOPT_ERRORBUFFER, e.error);
  set(easy, CURLOPT_WRITEFUNCTION, &Exchange::on_body);
  set(easy, CURLOPT_WRITEDATA, &e);
  set(easy, CURLOPT_HEADERFUNCTION, &Exchange::on_header);
  set(easy, CURLOPT_HEADERDATA, &e);
  if (e.request.timeout > Duration::zero()) set(easy, CURLOPT_TIMEOUT_MS, to_ms(e.request.timeout));
  if (e.request.idle_limit > Duration::zero()) {
    set(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
    set(easy, CURLOPT_LOW_SPEED_TIME, to_ms(e.request.idle_limit) / 1000);
  }
  if (!e.request.body.empty()) {
    set(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(e.request.body.size()));
    set(easy, CURLOPT_POSTFIELDS, e.request.body.data());
  }
  if (e.headers) set(easy, CURLOPT_HTTPHEADER, e.headers.get());
  if (!access.ca_file.empty()) set(easy, CURLOPT_CAINFO, access.ca_file.c_str());
  if (!access.ca_data.empty()) set_blob(easy, CURLOPT_CAINFO_BLOB, access.ca_data);
  if (access.insecure) {
    set(easy, CURLOPT_SSL_VERIFYPEER, 0L);
    set(easy, CURLOPT_SSL_VERIFYHOST, 0L);
  }
  if (!access.client_cert_file.empty()) set(easy, CURLOPT_SSLCERT, access.client_cert_file.c_str());
  if (!access.client_cert_data.empty()) set_blob(easy, CURLOPT_SSLCERT_BLOB, access.client_cert_data);
  if (!access.client_key_file.empty()) set(easy, CURLOPT_SSLKEY, access.client_key_file.c_str());
  if (!access.client_key_data.empty()) set_blob(easy, CURLOPT_SSLKEY_BLOB, access.client_key_data);

  impl_->running.emplace(easy, std::move(exchange));
  curl_multi_add_handle(impl_->multi, easy);
}

Result<> check_status(const HttpRequest& request, const HttpResponse& response) {
  if (response.status < 400) return {};
  const Code code = response.status == 401 || response.status == 403   ? Code::kDenied
                    : response.status == 404                           ? Code::kNotFound
                    : response.status == 409                           ? Code::kConflict
                    : response.status == 400 || response.status == 422 ? Code::kInvalid
                                                                       : Code::kUnavailable;
  return fail(code, "{} {}: {} {}", request.method, request.path, response.status, message_of(response.body));
}

}  // namespace fairlead::kube
