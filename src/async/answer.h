// SPDX-License-Identifier: BSD-3-Clause
// Answer<T>: waits on one loop for what is found out on another.
//
//   Answer<int> answer(loop_);
//   post(other, [&answer] { answer.set(measure()); });
//   Result<int> n = co_await answer;
#pragma once

#include <coroutine>
#include <optional>
#include <utility>

#include "async/job.h"
#include "async/loop.h"
#include "base/result.h"

namespace nbdkit {

// Awaited at once after what makes the other loop set it, on `waiting`'s thread: that loop cannot
// run the job before the waiter has suspended.
template <typename T>
class Answer final : public Job {
 public:
  explicit Answer(Loop& waiting) : waiting_(waiting) {}

  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> waiter) noexcept { waiter_ = waiter; }
  Result<T> await_resume() { return std::move(*result_); }

  // Any thread, once.
  void set(Result<T> result) {
    result_.emplace(std::move(result));
    waiting_.post(*this);
  }

 private:
  void run() noexcept override { waiter_.resume(); }

  Loop& waiting_;
  std::optional<Result<T>> result_;
  std::coroutine_handle<> waiter_;
};

}  // namespace nbdkit
