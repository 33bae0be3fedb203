// SPDX-License-Identifier: Apache-2.0
#include "agent/base/loop.h"

#include <asio/error.hpp>
#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <asio/posix/stream_descriptor.hpp>
#include <asio/post.hpp>
#include <asio/steady_timer.hpp>
#include <optional>
#include <utility>

namespace fairlead {

struct Subscription::State : std::enable_shared_from_this<State> {
  bool live = true;
  std::optional<asio::steady_timer> timer;
  std::optional<asio::posix::stream_descriptor> descriptor;
  Task once;
  std::function<void()> repeated;
  asio::steady_timer::duration period{};

  ~State() {
    if (descriptor) descriptor->release();
  }

  void arm_timer() {
    timer->async_wait([self = shared_from_this()](const asio::error_code& error) {
      if (error || !self->live) return;
      if (self->once) {
        self->live = false;
        std::exchange(self->once, {})();
        return;
      }
      self->repeated();
      if (!self->live) return;
      self->timer->expires_at(self->timer->expiry() + self->period);
      self->arm_timer();
    });
  }

  void arm_descriptor(asio::posix::stream_descriptor::wait_type wait) {
    descriptor->async_wait(wait, [self = shared_from_this(), wait](const asio::error_code& error) {
      if (error || !self->live) return;
      self->repeated();
      if (self->live) self->arm_descriptor(wait);
    });
  }

  void end() {
    live = false;
    if (timer) timer->cancel();
    if (descriptor) {
      // The descriptor is the caller's and may be closed next: take it out of the poll set now.
      descriptor->release();
      descriptor.reset();
    }
  }
};

Subscription::Subscription() = default;
Subscription::Subscription(std::shared_ptr<State> state) : state_(std::move(state)) {}
Subscription::Subscription(Subscription&&) noexcept = default;
Subscription& Subscription::operator=(Subscription&& other) noexcept {
  if (this != &other) {
    cancel();
    state_ = std::move(other.state_);
  }
  return *this;
}
Subscription::~Subscription() {
  cancel();
}
void Subscription::cancel() {
  if (auto state = std::exchange(state_, nullptr)) state->end();
}

struct Loop::Impl {
  asio::io_context context{1};
  std::optional<asio::executor_work_guard<asio::io_context::executor_type>> work{context.get_executor()};
};

Loop::Loop() : impl_(std::make_unique<Impl>()) {}
Loop::~Loop() = default;

void Loop::run() {
  impl_->context.run();
}

void Loop::stop() {
  post([this] {
    impl_->work.reset();
    impl_->context.stop();
  });
}

void Loop::poll() {
  impl_->context.poll();
}

void Loop::post(Task task) {
  // asio wants copyable handlers on some paths: a shared holder keeps move-only tasks possible.
  asio::post(impl_->context, [holder = std::make_shared<Task>(std::move(task))] { (*holder)(); });
}

Subscription Loop::after(Duration delay, Task task) {
  auto state = std::make_shared<Subscription::State>();
  state->timer.emplace(impl_->context, std::chrono::duration_cast<asio::steady_timer::duration>(delay));
  state->once = std::move(task);
  state->arm_timer();
  return Subscription(std::move(state));
}

Subscription Loop::every(Duration period, std::function<void()> task) {
  auto state = std::make_shared<Subscription::State>();
  state->period = std::chrono::duration_cast<asio::steady_timer::duration>(period);
  state->timer.emplace(impl_->context, state->period);
  state->repeated = std::move(task);
  state->arm_timer();
  return Subscription(std::move(state));
}

Subscription Loop::watch(int fd, Ready ready, std::function<void()> task) {
  auto state = std::make_shared<Subscription::State>();
  state->descriptor.emplace(impl_->context, fd);
  state->repeated = std::move(task);
  if (ready != Ready::kWrite) state->arm_descriptor(asio::posix::stream_descriptor::wait_read);
  if (ready != Ready::kRead) state->arm_descriptor(asio::posix::stream_descriptor::wait_write);
  return Subscription(std::move(state));
}

}  // namespace fairlead
