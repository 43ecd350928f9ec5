// SPDX-License-Identifier: BSD-3-Clause
// TestLoop: a loop with virtual time. A test that waits an hour takes no time at all.
#pragma once

#include <optional>
#include <utility>

#include "async/loop.h"

namespace nbdkit {

namespace detail {
struct TestLoopWorkers {
  WorkerPool pool;
};
}  // namespace detail

// Time stands still while something can happen and jumps to the next timer when nothing can.
// With blocking() under way it waits for that in real time first.
class TestLoop : private detail::TestLoopWorkers, public Loop {
 public:
  TestLoop() : Loop(pool) { set_now(time_); }
  ~TestLoop() override { pool.stop(); }

  // Turns the loop until the Task has ended.
  template <typename T>
  Result<T> run(Task<T> task) {
    std::optional<Result<T>> result;
    finish(std::move(task), [&](Result<T> r) {
      result.emplace(std::move(r));
      stop();
    });
    Loop::run();
    return std::move(*result);
  }

  // Virtual time since the loop was made.
  Nanoseconds elapsed() const { return time_; }

 protected:
  Nanoseconds read_clock() override { return time_; }
  int wait(std::span<epoll_event> events, Nanoseconds until) override;
  int look(std::span<epoll_event>, Nanoseconds) override { return 0; }

 private:
  Nanoseconds time_{0};
};

}  // namespace nbdkit
