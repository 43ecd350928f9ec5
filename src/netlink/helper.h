// SPDX-License-Identifier: BSD-3-Clause
// Helper: a thread for calls into the kernel that may never return. Whoever waits for one gives up
// at a deadline; the call itself cannot be given up and may end at any later time, or never.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include "async/loop.h"

namespace nbdkit {

// One loop's; its thread only. Calls are carried out one after another, in order. The thread is
// made by the first call.
class Helper {
 public:
  template <typename Function>
  using ResultOf = std::invoke_result_t<Function&>;
  template <typename Function>
  using Late = std::function<void(ResultOf<Function>)>;

  Helper(Loop& loop, std::string name);
  Helper(const Helper&) = delete;
  Helper& operator=(const Helper&) = delete;
  ~Helper();  // close() has ended.

  // Runs `function` on the thread and ends with the Result<T> that it returns, or with timed_out
  // when it has not returned after `deadline`. Since it may go on after that, it must own all that
  // it uses; that is destroyed on the thread, before the Task ends unless the call is late. One
  // whose deadline passes while it waits for its turn is never run.
  // `late` gets, on the thread, the Result of a call for which nobody waits any more.
  template <typename Function>
  Task<typename ResultOf<Function>::value_type> call(Nanoseconds deadline, Function function,
                                                     Late<Function> late = {});

  // Lets nothing new in and ends once the thread is gone. A thread that is still inside a call
  // after `patience` is left behind, and the answer is false.
  Task<bool> close(Nanoseconds patience);

 private:
  class Call;
  template <typename Function>
  class CallOf;
  class Shared;
  class Wait;

  Task<void> carry_out(std::shared_ptr<Call> call, Nanoseconds deadline);

  Loop& loop_;
  const std::string name_;
  std::shared_ptr<Shared> shared_;  // with the thread
};

class Helper::Call {
 public:
  virtual ~Call() = default;
  virtual void run() noexcept = 0;       // On the thread.
  virtual void run_late() noexcept = 0;  // The same, when nobody waits any more.

  Wait* waiter = nullptr;  // Null once it has given up. Guarded by Shared's mutex.
};

template <typename Function>
class Helper::CallOf final : public Call {
 public:
  CallOf(Function function, Late<Function> late) : late_(std::move(late)) {
    function_.emplace(std::move(function));
  }
  void run() noexcept override {
    result.emplace((*function_)());
    function_.reset();
  }
  void run_late() noexcept override {
    if (late_) late_(std::move(*result));
  }

  std::optional<ResultOf<Function>> result;

 private:
  std::optional<Function> function_;
  Late<Function> late_;
};

template <typename Function>
Task<typename Helper::ResultOf<Function>::value_type> Helper::call(Nanoseconds deadline,
                                                                   Function function,
                                                                   Late<Function> late) {
  auto call = std::make_shared<CallOf<Function>>(std::move(function), std::move(late));
  std::shared_ptr<Call> base = call;
  co_await carry_out(std::move(base), deadline);
  auto result = std::move(*call->result);
  if (!result.ok()) co_await fail(std::move(result).error());
  if constexpr (!std::is_void_v<typename decltype(result)::value_type>) {
    co_return std::move(result).value();
  }
}

}  // namespace nbdkit
