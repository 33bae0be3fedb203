// SPDX-License-Identifier: Apache-2.0
// HttpClient: requests to the API server over HTTP/2 on one Loop, so that lists and watches of all kinds share a
// connection, and only each further hundred of exchanges has one more.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/clock.h"
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
  // No byte for this long ends the exchange with kTimeout (a stalled connection); zero: not watched. Whole seconds.
  Duration idle_limit{};
};

struct HttpResponse {
  long status = 0;
  std::string body;        // empty where the body was streamed
  Duration retry_after{};  // from Retry-After, or zero
};

inline const SystemClock kSystemClock;

// Owner: the API edge. Thread: its loop. Destroying it ends every exchange without an answer.
//
// Who we are is looked up for each request (Credentials): rotated files count at once, and a plugin's credential that
// the server takes for nobody's is replaced and the request sent once more. New connections are made where CA or client
// certificate changed, and after an exchange that timed out: its connection may be dead without knowing.
class HttpClient {
 public:
  HttpClient(Loop& loop, ClusterAccess access, const Clock& clock = kSystemClock);
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  using Done = std::function<void(Result<HttpResponse>)>;
  // Gets the body piece by piece, of 2xx answers only, and before it an empty piece once such an answer begins; false
  // ends the exchange with kCancelled. It must not cancel.
  using OnData = std::function<bool(std::string_view)>;
  using CallId = std::uint64_t;

  // Starts an exchange; `done` runs once on the loop. A status of 400 and above is an answer, not an error: see
  // check_status(). Errors name method, URL and curl's reason.
  CallId send(HttpRequest request, Done done, OnData on_data = {});
  // Ends an exchange without an answer; nothing where it is over.
  void cancel(CallId id);

  Loop& loop() const;

 private:
  struct Impl;
  std::shared_ptr<Impl> impl_;
};

// A path or URL as errors name it: the same at each attempt.
std::string without_query(const std::string& path);

// An error for an HTTP status of 400 and above, with the message of the API's Status object where there is one.
Result<> check_status(const HttpRequest& request, const HttpResponse& response);

}  // namespace fairlead::kube
