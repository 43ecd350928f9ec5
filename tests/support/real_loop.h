// SPDX-License-Identifier: BSD-3-Clause
// RealLoop: a loop in real time, for what happens on threads that virtual time does not know.
#pragma once

#include <optional>
#include <utility>

#include "async/loop.h"

namespace nbdkit {

namespace detail {
struct RealLoopWorkers {
  WorkerPool pool;
};
}  // namespace detail

class RealLoop : private detail::RealLoopWorkers, public Loop {
 public:
  RealLoop() : Loop(pool), gate_(*this) {}
  // A worker touches the loop for a moment after it has given a job back.
  ~RealLoop() override { pool.stop(); }

  // Starts the Task that `start` makes and turns the loop until it has ended.
  template <typename Start>
  auto run(Start start) -> decltype(start().take()) {
    // Deadlines count from the loop's time, which stood still while the test did something else.
    Result<void> turned = to_its_end(sleep(Nanoseconds(0), gate_));
    static_cast<void>(turned);
    return to_its_end(start());
  }

 private:
  template <typename T>
  Result<T> to_its_end(Task<T> task) {
    std::optional<Result<T>> result;
    finish(std::move(task), [&](Result<T> ended) {
      result.emplace(std::move(ended));
      stop();
    });
    Loop::run();
    return std::move(*result);
  }

  Gate gate_;
};

}  // namespace nbdkit
