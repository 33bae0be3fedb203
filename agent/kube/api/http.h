// SPDX-License-Identifier: Apache-2.0
// HttpClient: requests to the API server over one curl_multi on one Loop: HTTP/2, so that lists and watches of all
// kinds share a connection.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/loop.h"
#include "agent/base/result.h"
#include "agent/kube/api/kubeconfig.h"

namespace fairlead::kube {

struct HttpRequest {
  std::string method = "GET";
  std::string path;  // "/api/v1/services?limit=500", appended to the server's URL
  std::vector<std::string> headers;
  std::string body;
  Duration timeout = std::chrono::seconds(30);  // of the whole exchange; zero: none, as a watch needs
  // No byte for this long ends the exchange with kTimeout (a stalled connection); zero: not watched.
  Duration idle_limit{};
};

struct HttpResponse {
  long status = 0;
  std::string body;        // empty where the body was streamed
  Duration retry_after{};  // from Retry-After, or zero
};

// Owner: the API edge. Thread: its loop. Destroying it ends every exchange without an answer.
class HttpClient {
 public:
  HttpClient(Loop& loop, ClusterAccess access);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  using Done = std::function<void(Result<HttpResponse>)>;
  // Gets the body piece by piece, of 2xx answers only; false ends the exchange with kCancelled.
  using OnData = std::function<bool(std::string_view)>;

  // Starts an exchange; `done` runs once on the loop. A status of 400 and above is an answer, not an error: see
  // check_status(). Errors name method, URL and curl's reason.
  void send(HttpRequest request, Done done, OnData on_data = {});

 private:
  struct Exchange;
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// An error for an HTTP status of 400 and above, with the message of the API's Status object where there is one.
Result<> check_status(const HttpRequest& request, const HttpResponse& response);

}  // namespace fairlead::kube
