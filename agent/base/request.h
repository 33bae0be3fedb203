// SPDX-License-Identifier: Apache-2.0
// Request: a typed question from one module to another's loop, with a deadline. The answer may come later, from any
// thread; a responder that goes away answers "unavailable", so no caller waits for ever.
#pragma once

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "agent/base/loop.h"
#include "agent/base/result.h"

namespace fairlead {

// The right to answer one request, once. Movable; destroyed unanswered it answers kUnavailable.
template <class T>
class Reply {
 public:
  using Done = std::move_only_function<void(Result<T>)>;
  Reply() = default;
  explicit Reply(Done done) : done_(std::move(done)) {}
  Reply(Reply&& other) noexcept : done_(std::exchange(other.done_, nullptr)) {}
  Reply& operator=(Reply&& other) noexcept {
    if (this != &other) {
      drop();
      done_ = std::exchange(other.done_, nullptr);
    }
    return *this;
  }
  ~Reply() { drop(); }

  void operator()(Result<T> result) {
    if (auto done = std::exchange(done_, nullptr)) done(std::move(result));
  }

 private:
  void drop() {
    if (done_) (*this)(fail(Code::kUnavailable, "the request was dropped: the agent is stopping"));
  }
  Done done_;
};

namespace detail {

template <class Req, class Rep>
struct RequestCore {
  using Handler = std::function<void(Req, Reply<Rep>)>;
  std::mutex mutex;
  Loop* loop = nullptr;
  std::shared_ptr<Handler> handler;

  // Hands the request to the responder's loop, or drops `reply` (which answers) where there is none.
  void deliver(Req request, Reply<Rep> reply) {
    const std::lock_guard lock(mutex);
    if (loop == nullptr) return;
    loop->post([handler = handler, request = std::move(request), reply = std::move(reply)]() mutable {
      (*handler)(std::move(request), std::move(reply));
    });
  }
};

}  // namespace detail

// The asking end. Copyable; any thread.
template <class Req, class Rep>
class Caller {
 public:
  Caller() = default;
  explicit Caller(std::shared_ptr<detail::RequestCore<Req, Rep>> core) : core_(std::move(core)) {}

  // Asks, and runs `done` on `loop` with the answer or, after `deadline`, with kTimeout. `loop` outlives the call.
  void call(Loop& loop, Req request, Duration deadline, std::function<void(Result<Rep>)> done) const {
    struct Pending {
      std::function<void(Result<Rep>)> done;
      Subscription timer;
      void finish(Result<Rep> result) {
        timer.cancel();
        if (auto callback = std::exchange(done, nullptr)) callback(std::move(result));
      }
    };
    auto pending = std::make_shared<Pending>();
    pending->done = std::move(done);
    loop.post([this_core = core_, &loop, pending, request = std::move(request), deadline]() mutable {
      pending->timer = loop.after(
          deadline, [pending] { pending->finish(fail(Code::kTimeout, "no answer from the agent's module in time")); });
      this_core->deliver(
          std::move(request), Reply<Rep>([&loop, pending](Result<Rep> result) mutable {
            loop.post([pending, result = std::move(result)]() mutable { pending->finish(std::move(result)); });
          }));
    });
  }

  // Asks and blocks the calling thread, which must not be a loop's. For tests and pool workers.
  Result<Rep> call_sync(Req request, Duration deadline) const {
    struct Box {
      std::mutex mutex;
      std::condition_variable ready;
      std::optional<Result<Rep>> result;
    };
    auto box = std::make_shared<Box>();
    core_->deliver(std::move(request), Reply<Rep>([box](Result<Rep> result) {
                     const std::lock_guard lock(box->mutex);
                     box->result = std::move(result);
                     box->ready.notify_all();
                   }));
    std::unique_lock lock(box->mutex);
    if (!box->ready.wait_for(lock, deadline, [&] { return box->result.has_value(); })) {
      return fail(Code::kTimeout, "no answer from the agent's module in time");
    }
    return std::move(*box->result);
  }

 private:
  std::shared_ptr<detail::RequestCore<Req, Rep>> core_;
};

// The answering end: one owner, detached when it is destroyed.
template <class Req, class Rep>
class Responder {
 public:
  Responder() = default;
  explicit Responder(std::shared_ptr<detail::RequestCore<Req, Rep>> core) : core_(std::move(core)) {}
  Responder(Responder&&) noexcept = default;
  Responder& operator=(Responder&& other) noexcept {
    detach();
    core_ = std::move(other.core_);
    return *this;
  }
  ~Responder() { detach(); }

  // Runs `handler` on `loop` for each request from now on.
  void attach(Loop& loop, std::function<void(Req, Reply<Rep>)> handler) {
    const std::lock_guard lock(core_->mutex);
    core_->loop = &loop;
    core_->handler = std::make_shared<std::function<void(Req, Reply<Rep>)>>(std::move(handler));
  }

  void detach() {
    if (!core_) return;
    const std::lock_guard lock(core_->mutex);
    core_->loop = nullptr;
    core_->handler.reset();
  }

 private:
  std::shared_ptr<detail::RequestCore<Req, Rep>> core_;
};

template <class Req, class Rep>
std::pair<Caller<Req, Rep>, Responder<Req, Rep>> make_request() {
  auto core = std::make_shared<detail::RequestCore<Req, Rep>>();
  return {Caller<Req, Rep>(core), Responder<Req, Rep>(core)};
}

}  // namespace fairlead
