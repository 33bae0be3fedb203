// SPDX-License-Identifier: Apache-2.0
// CurlPool: one curl_multi on a Loop: connections, and the exchanges that run over them.
#pragma once

#include <curl/curl.h>

#include <functional>
#include <map>

#include "agent/base/loop.h"

namespace fairlead::kube {

// Owner: HttpClient; thread: the loop's. Handles are the caller's and leave the pool before it goes.
class CurlPool {
 public:
  // Told of each handle that ended, when it is out of the pool; must not add or remove others then.
  using Ended = std::function<void(CURL*, CURLcode)>;

  CurlPool(Loop& loop, Ended ended);
  ~CurlPool();
  CurlPool(const CurlPool&) = delete;
  CurlPool& operator=(const CurlPool&) = delete;

  void add(CURL* easy);
  void remove(CURL* easy);  // before its end; not from one of its own callbacks
  std::size_t running() const { return running_; }

 private:
  static int on_socket(CURL*, curl_socket_t fd, int what, void* self, void*);
  static int on_timer(CURLM*, long wait_ms, void* self);
  void act(curl_socket_t fd);

  Loop& loop_;
  Ended ended_;
  CURLM* multi_;
  std::map<curl_socket_t, Subscription> sockets_;
  Subscription timer_;
  std::size_t running_ = 0;
};

}  // namespace fairlead::kube
