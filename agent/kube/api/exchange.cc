// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/api/exchange.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <charconv>
#include <chrono>

#include "agent/base/log.h"

namespace fairlead::kube {
namespace {

// A peer that acknowledges nothing for this long is gone, whatever its connection says.
constexpr unsigned kPeerPatienceMs = 30'000;
constexpr long kKeepAliveIdle = 15;  // seconds
constexpr long kKeepAliveInterval = 5;

long to_ms(Duration duration) {
  return static_cast<long>(std::chrono::duration_cast<std::chrono::milliseconds>(duration).count());
}

// Sets one option; our options are constants, so a refusal is a bug of ours and is logged as one.
template <class T>
void set(CURL* easy, CURLoption option, T value) {
  if (const CURLcode code = curl_easy_setopt(easy, option, value); code != CURLE_OK) {
    log::error("http", "curl refused an option",
               {{"option", static_cast<int>(option)}, {"error", curl_easy_strerror(code)}});
  }
}

// PEM from memory, else from a file, which curl reads for each new connection; nothing where there is neither.
void set_pem(CURL* easy, CURLoption file_option, const std::string& file, CURLoption data_option,
             const std::string& data) {
  if (!data.empty()) {
    curl_blob blob{const_cast<char*>(data.data()), data.size(), CURL_BLOB_COPY};
    set(easy, data_option, &blob);
  } else if (!file.empty()) {
    set(easy, file_option, file.c_str());
  }
}

int on_new_socket(void*, curl_socket_t fd, curlsocktype) {
  // Best effort: without it a dead peer is noticed by the exchanges' own deadlines, later.
  setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &kPeerPatienceMs, sizeof(kPeerPatienceMs));
  return CURL_SOCKOPT_OK;
}

}  // namespace

std::size_t Exchange::on_body(char* bytes, std::size_t, std::size_t size, void* self_pointer) {
  auto* self = static_cast<Exchange*>(self_pointer);
  long status = 0;
  curl_easy_getinfo(self->easy_.get(), CURLINFO_RESPONSE_CODE, &status);
  if (self->on_data && status < 300) {
    if (self->on_data({bytes, size})) return size;
    self->refused_by_reader_ = true;
    return 0;
  }
  self->response.body.append(bytes, size);
  return size;
}

std::size_t Exchange::on_header(char* bytes, std::size_t, std::size_t size, void* self_pointer) {
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
  if (self->on_data && line == "\r\n") {  // the last of them
    long status = 0;
    curl_easy_getinfo(self->easy_.get(), CURLINFO_RESPONSE_CODE, &status);
    if (status >= 200 && status < 300) self->on_data({});
  }
  return size;
}

void Exchange::add_header(const std::string& line) {
  headers_.reset(curl_slist_append(headers_.release(), line.c_str()));
}

void Exchange::set_identity(const ClusterAccess& access) {
  CURL* easy = easy_.get();
  if (!credential.token.empty()) add_header("Authorization: Bearer " + credential.token);
  set_pem(easy, CURLOPT_CAINFO, access.ca_file, CURLOPT_CAINFO_BLOB, access.ca_data);
  set(easy, CURLOPT_CA_CACHE_TIMEOUT, 0L);  // a rotated CA counts from the next connection on
  if (access.insecure) {
    set(easy, CURLOPT_SSL_VERIFYPEER, 0L);
    set(easy, CURLOPT_SSL_VERIFYHOST, 0L);
  }
  const bool own = !credential.cert_data.empty();
  set_pem(easy, CURLOPT_SSLCERT, access.client_cert_file, CURLOPT_SSLCERT_BLOB,
          own ? credential.cert_data : access.client_cert_data);
  set_pem(easy, CURLOPT_SSLKEY, access.client_key_file, CURLOPT_SSLKEY_BLOB,
          own ? credential.key_data : access.client_key_data);
}

// Asks for `tls_server_name` at the server's own address: what TLS then wants the certificate to name.
void Exchange::set_url(const ClusterAccess& access) {
  CURL* easy = easy_.get();
  url = access.server + request.path;
  set(easy, CURLOPT_URL, url.c_str());
  if (!access.proxy_url.empty()) set(easy, CURLOPT_PROXY, access.proxy_url.c_str());
  if (access.tls_server_name.empty()) return;
  const std::size_t host = access.server.find("://") + 3;
  const std::size_t end = access.server.find('/', host);
  std::string authority = access.server.substr(host, end == std::string::npos ? end : end - host);
  const std::size_t colon = authority.rfind(':');
  const bool has_port = colon != std::string::npos && authority.find(']', colon) == std::string::npos;
  const std::string port = has_port ? authority.substr(colon + 1) : "443";
  if (!has_port) authority += ":443";
  connect_to_.reset(
      curl_slist_append(nullptr, fmt::format("{}:{}:{}", access.tls_server_name, port, authority).c_str()));
  set(easy, CURLOPT_CONNECT_TO, connect_to_.get());
  set(easy, CURLOPT_URL,
      fmt::format("https://{}:{}{}{}", access.tls_server_name, port,
                  end == std::string::npos ? std::string() : access.server.substr(end), request.path)
          .c_str());
}

void Exchange::run(const ClusterAccess& access, Credential with, std::shared_ptr<CurlPool> in) {
  easy_.reset(curl_easy_init());
  headers_.reset();
  response = {};
  credential = std::move(with);
  CURL* easy = easy_.get();
  set(easy, CURLOPT_PRIVATE, this);
  set_url(access);
  set(easy, CURLOPT_CUSTOMREQUEST, request.method.c_str());
  set(easy, CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_2TLS));
  set(easy, CURLOPT_PIPEWAIT, 1L);
  set(easy, CURLOPT_NOSIGNAL, 1L);
  set(easy, CURLOPT_CONNECTTIMEOUT_MS, 10'000L);
  set(easy, CURLOPT_TCP_KEEPALIVE, 1L);
  set(easy, CURLOPT_TCP_KEEPIDLE, kKeepAliveIdle);
  set(easy, CURLOPT_TCP_KEEPINTVL, kKeepAliveInterval);
  set(easy, CURLOPT_SOCKOPTFUNCTION, &on_new_socket);
  set(easy, CURLOPT_ERRORBUFFER, error_);
  set(easy, CURLOPT_WRITEFUNCTION, &Exchange::on_body);
  set(easy, CURLOPT_WRITEDATA, this);
  set(easy, CURLOPT_HEADERFUNCTION, &Exchange::on_header);
  set(easy, CURLOPT_HEADERDATA, this);
  if (request.timeout > Duration::zero()) set(easy, CURLOPT_TIMEOUT_MS, to_ms(request.timeout));
  if (request.idle_limit > Duration::zero()) {
    set(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
    set(easy, CURLOPT_LOW_SPEED_TIME, to_ms(request.idle_limit) / 1000);
  }
  if (!request.body.empty()) {
    set(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
    set(easy, CURLOPT_POSTFIELDS, request.body.data());
  }
  for (const std::string& line : request.headers) add_header(line);
  add_header("User-Agent: fairlead-agent");
  set_identity(access);
  set(easy, CURLOPT_HTTPHEADER, headers_.get());
  pool = std::move(in);
  pool->add(easy);
}

Result<HttpResponse> Exchange::end(CURLcode code) {
  pool.reset();
  if (code == CURLE_OK) {
    curl_easy_getinfo(easy_.get(), CURLINFO_RESPONSE_CODE, &response.status);
    return std::move(response);
  }
  const Code kind = code == CURLE_OPERATION_TIMEDOUT                               ? Code::kTimeout
                    : refused_by_reader_                                           ? Code::kCancelled
                    : code == CURLE_PEER_FAILED_VERIFICATION                       ? Code::kDenied
                    : code == CURLE_URL_MALFORMAT || code == CURLE_SSL_CERTPROBLEM ? Code::kInvalid
                                                                                   : Code::kUnavailable;
  return fail(kind, "{} {}: {}", request.method, without_query(url),
              error_[0] != '\0' ? error_ : curl_easy_strerror(code));
}

}  // namespace fairlead::kube
