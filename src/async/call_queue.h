// SPDX-License-Identifier: BSD-3-Clause
// CallQueue: calls that must not run all at the same time wait here, and not in a thread.
#pragma once

#include <coroutine>
#include <cstddef>
#include <mutex>
#include <optional>
#include <type_traits>
#include <utility>

#include "async/job.h"
#include "async/loop.h"
#include "async/task.h"

namespace nbdkit {

// At most `width` calls at a time, begun in the order of arrival. Many loops may share one. Must be
// empty when it is destroyed.
class CallQueue {
 public:
  explicit CallQueue(std::size_t width) : width_(width) {}
  CallQueue(const CallQueue&) = delete;
  CallQueue& operator=(const CallQueue&) = delete;

  // Runs `function` on a worker when its turn has come, and ends with the Result<T> it returns.
  // `loop` is the caller's.
  template <typename Function>
  Task<typename std::invoke_result_t<Function&>::value_type> run(Loop& loop, Function function);

  // The same on this thread, the loop's, when nobody has to wait for it; otherwise nothing happens.
  template <typename Function>
  std::optional<std::invoke_result_t<Function&>> run_here(Loop& loop, Function& function) {
    if (!enter()) return std::nullopt;
    auto result = function();
    leave(loop);
    return result;
  }

 private:
  // run() first on a worker, then on the loop.
  class Call : public Job {
   public:
    Call(CallQueue& queue, Loop& loop) : queue_(queue), loop_(loop) {}
    void run() noexcept final;
    void start();

   protected:
    ~Call() = default;
    virtual void execute() noexcept = 0;
    virtual void done() noexcept = 0;

   private:
    CallQueue& queue_;
    Loop& loop_;
    bool executed_ = false;
  };

  template <typename Function>
  class FunctionCall;

  bool enter();
  void leave(Loop& loop);
  Call* next();

  const std::size_t width_;
  std::mutex mutex_;  // Never held during a call.
  std::size_t running_ = 0;
  JobQueue waiting_;
};

template <typename Function>
class CallQueue::FunctionCall final : public Call {
 public:
  using R = std::invoke_result_t<Function&>;

  FunctionCall(CallQueue& queue, Loop& loop, Function& function)
      : Call(queue, loop), function_(function) {}
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> waiter) noexcept {
    waiter_ = waiter;
    start();
  }
  R await_resume() noexcept { return std::move(*result_); }

 private:
  void execute() noexcept override { result_.emplace(function_()); }
  void done() noexcept override { waiter_.resume(); }

  Function& function_;
  std::coroutine_handle<> waiter_;
  std::optional<R> result_;
};

template <typename Function>
Task<typename std::invoke_result_t<Function&>::value_type> CallQueue::run(Loop& loop,
                                                                          Function function) {
  FunctionCall<Function> call(*this, loop, function);
  auto result = co_await call;
  if (!result.ok()) co_await fail(std::move(result).error());
  if constexpr (!std::is_void_v<typename decltype(result)::value_type>) {
    co_return std::move(result).value();
  }
}

}  // namespace nbdkit
