// SPDX-License-Identifier: Apache-2.0
// ApiClient: a benchmark's own word to the API server.
#pragma once

#include <google/protobuf/message_lite.h>

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "agent/base/loop_thread.h"
#include "agent/base/result.h"
#include "agent/kube/api/http.h"

namespace fairlead::bench {

using Moment = std::chrono::steady_clock::time_point;

inline double ms_between(Moment from, Moment to) {
  return std::chrono::duration<double, std::milli>(to - from).count();
}

// An object in the API's protobuf, and a request that writes it: "POST" to a collection or "PUT" of the object itself,
// as the controllers' field manager.
kube::HttpRequest write_request(const std::string& method, const std::string& path, const std::string& api_version,
                                const std::string& kind, const google::protobuf::MessageLite& object);

// Owner and thread: the benchmark's main, which waits for answers; one thread of its own. An answer of 400 and above is
// an error.
class ApiClient {
 public:
  static Result<std::unique_ptr<ApiClient>> open(const std::filesystem::path& kubeconfig);
  ~ApiClient();

  struct Answer {
    std::string body;
    Moment at;  // when it had come
  };
  Result<Answer> send(kube::HttpRequest request);
  // `count` requests as `make` makes them, `at_once` of them open at any time. Ends with the first error.
  Result<> send_all(std::size_t count, std::size_t at_once, const std::function<kube::HttpRequest(std::size_t)>& make);
  // Events of a watch in the API's JSON, one a line, until this client ends; at most one watch. `line` runs on the
  // client's thread. The server closes a watch that cannot keep up: it is begun anew, and tells first what there is.
  void watch(const std::string& path, const std::function<void(const std::string& line, Moment at)>& line);
  // Runs `task` where watches' lines come, and waits for its end.
  void on_thread(const std::function<void()>& task);

 private:
  ApiClient() = default;
  void follow(const std::string& path, const std::function<void(const std::string& line, Moment at)>& line);

  LoopThread thread_{"api"};
  std::unique_ptr<kube::HttpClient> http_;
  Subscription again_;  // a watch
};

}  // namespace fairlead::bench
