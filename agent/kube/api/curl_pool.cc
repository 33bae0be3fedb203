// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/api/curl_pool.h"

#include <chrono>
#include <utility>

namespace fairlead::kube {
CurlPool::CurlPool(Loop& loop, Ended ended) : loop_(loop), ended_(std::move(ended)), multi_(curl_multi_init()) {
  curl_multi_setopt(multi_, CURLMOPT_SOCKETFUNCTION, &CurlPool::on_socket);
  curl_multi_setopt(multi_, CURLMOPT_SOCKETDATA, this);
  curl_multi_setopt(multi_, CURLMOPT_TIMERFUNCTION, &CurlPool::on_timer);
  curl_multi_setopt(multi_, CURLMOPT_TIMERDATA, this);
  curl_multi_setopt(multi_, CURLMOPT_PIPELINING, CURLPIPE_MULTIPLEX);
}

CurlPool::~CurlPool() {
  curl_multi_cleanup(multi_);
  timer_.cancel();
}

void CurlPool::add(CURL* easy) {
  ++running_;
  curl_multi_add_handle(multi_, easy);
}

void CurlPool::remove(CURL* easy) {
  --running_;
  curl_multi_remove_handle(multi_, easy);
}

// curl tells which descriptors to watch, and when to wake it.
int CurlPool::on_socket(CURL*, curl_socket_t fd, int what, void* self_pointer, void*) {
  auto* self = static_cast<CurlPool*>(self_pointer);
  self->sockets_.erase(fd);
  if (what == CURL_POLL_REMOVE || what == CURL_POLL_NONE) return 0;
  const Loop::Ready ready = what == CURL_POLL_IN    ? Loop::Ready::kRead
                            : what == CURL_POLL_OUT ? Loop::Ready::kWrite
                                                    : Loop::Ready::kReadOrWrite;
  self->sockets_[fd] = self->loop_.watch(fd, ready, [self, fd] { self->act(fd); });
  return 0;
}

int CurlPool::on_timer(CURLM*, long wait_ms, void* self_pointer) {
  auto* self = static_cast<CurlPool*>(self_pointer);
  self->timer_.cancel();
  if (wait_ms >= 0) {
    self->timer_ = self->loop_.after(std::chrono::milliseconds(wait_ms), [self] { self->act(CURL_SOCKET_TIMEOUT); });
  }
  return 0;
}

void CurlPool::act(curl_socket_t fd) {
  int running = 0;
  curl_multi_socket_action(multi_, fd, 0, &running);
  int left = 0;
  while (CURLMsg* message = curl_multi_info_read(multi_, &left)) {
    if (message->msg != CURLMSG_DONE) continue;
    CURL* easy = message->easy_handle;  // the message goes with the handle
    const CURLcode code = message->data.result;
    remove(easy);
    ended_(easy, code);
  }
}

}  // namespace fairlead::kube
