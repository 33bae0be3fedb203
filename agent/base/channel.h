// SPDX-License-Identifier: Apache-2.0
// Channel: a typed one-way queue between two threads that coalesces by key. The latest value of a key wins, so a slow
// consumer never grows a backlog; direction is a type, so who may write is seen in a constructor.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "agent/base/loop.h"

namespace fairlead {

// How items of a channel coalesce. Specialise, or give T a `using Key`, `key()` and, where the latest must not simply
// replace what is pending, `void merge(T&& next)`.
template <class T>
struct Coalesce {
  using Key = typename T::Key;
  static Key key(const T& item) { return item.key(); }
  static void merge(T& pending, T&& next) {
    if constexpr (requires { pending.merge(std::move(next)); }) {
      pending.merge(std::move(next));
    } else {
      pending = std::move(next);
    }
  }
};

namespace detail {

// The shared part. The only lock on the way of a change; held for map operations, never across a callback.
template <class T>
struct ChannelCore {
  using Key = typename Coalesce<T>::Key;
  std::mutex mutex;
  std::map<Key, std::size_t> index;  // key → position in pending
  std::vector<T> pending;            // in order of first arrival
  Loop* loop = nullptr;
  std::shared_ptr<std::function<void(std::vector<T>)>> consume;
  bool scheduled = false;
  bool closed = false;  // the receiver is gone: nothing is kept any more

  static void schedule(const std::shared_ptr<ChannelCore>& self) {  // mutex held
    if (self->scheduled || self->loop == nullptr || self->pending.empty()) return;
    self->scheduled = true;
    self->loop->post([self] { self->drain(); });
  }

  std::vector<T> take() {
    const std::lock_guard lock(mutex);
    scheduled = false;
    index.clear();
    return std::exchange(pending, {});
  }

  void drain() {
    std::vector<T> items = take();
    std::shared_ptr<std::function<void(std::vector<T>)>> consumer;
    {
      const std::lock_guard lock(mutex);
      consumer = consume;
    }
    if (consumer && !items.empty()) (*consumer)(std::move(items));
  }
};

}  // namespace detail

// The writing end. Copyable; send() from any thread. What is sent after the receiver's end is dropped.
template <class T>
class Sender {
 public:
  Sender() = default;
  explicit Sender(std::shared_ptr<detail::ChannelCore<T>> core) : core_(std::move(core)) {}

  void send(T item) const {
    const std::lock_guard lock(core_->mutex);
    if (core_->closed) return;
    auto [at, fresh] = core_->index.try_emplace(Coalesce<T>::key(item), core_->pending.size());
    if (fresh) {
      core_->pending.push_back(std::move(item));
    } else {
      Coalesce<T>::merge(core_->pending[at->second], std::move(item));
    }
    detail::ChannelCore<T>::schedule(core_);
  }

 private:
  std::shared_ptr<detail::ChannelCore<T>> core_;
};

// The reading end: one owner. attach() on, or before the start of, the loop's thread.
template <class T>
class Receiver {
 public:
  Receiver() = default;
  explicit Receiver(std::shared_ptr<detail::ChannelCore<T>> core) : core_(std::move(core)) {}
  Receiver(Receiver&&) noexcept = default;
  Receiver& operator=(Receiver&& other) noexcept {
    detach();
    core_ = std::move(other.core_);
    return *this;
  }
  ~Receiver() { detach(); }

  // Calls `consume` on `loop` with all that is pending, each time something came.
  void attach(Loop& loop, std::function<void(std::vector<T>)> consume) {
    const std::lock_guard lock(core_->mutex);
    core_->loop = &loop;
    core_->consume = std::make_shared<std::function<void(std::vector<T>)>>(std::move(consume));
    detail::ChannelCore<T>::schedule(core_);
  }

  // Takes what is pending now; for tests and for drains at stop.
  std::vector<T> take() { return core_->take(); }

  void detach() {
    if (!core_) return;
    const std::lock_guard lock(core_->mutex);
    core_->loop = nullptr;
    core_->consume.reset();
    core_->closed = true;
    core_->index.clear();
    core_->pending.clear();
  }

 private:
  std::shared_ptr<detail::ChannelCore<T>> core_;
};

template <class T>
std::pair<Sender<T>, Receiver<T>> make_channel() {
  auto core = std::make_shared<detail::ChannelCore<T>>();
  return {Sender<T>(core), Receiver<T>(core)};
}

}  // namespace fairlead
