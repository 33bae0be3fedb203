// SPDX-License-Identifier: Apache-2.0
// WorkerPool: a few threads for work that blocks (mounts, files), so that no loop ever does.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "agent/base/loop.h"
#include "agent/base/result.h"

namespace fairlead {

// Owner: Agent. Thread: submit() from any. Work runs in the order of submission, as threads become free. Destruction
// finishes what is running; what still waits is not run and answers kCancelled. Loops outlive it.
class WorkerPool {
 public:
  explicit WorkerPool(std::size_t threads);
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // Runs `work` on a thread of the pool, then `done` with its result on `loop`.
  template <class T>
  void submit(Loop& loop, std::move_only_function<Result<T>()> work, std::move_only_function<void(Result<T>)> done) {
    add([&loop, work = std::move(work), done = std::move(done)](bool run) mutable {
      Result<T> result = run ? work() : fail(Code::kCancelled, "the worker pool is stopping");
      work = nullptr;  // what it captured goes here, not on the loop
      loop.post([done = std::move(done), result = std::move(result)]() mutable { done(std::move(result)); });
    });
  }

 private:
  using Job = std::move_only_function<void(bool run)>;
  void add(Job job);
  void work();

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Job> jobs_;
  bool stopping_ = false;
  std::vector<std::jthread> threads_;  // last: they use the rest
};

}  // namespace fairlead
