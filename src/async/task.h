// SPDX-License-Identifier: BSD-3-Clause
// Task<T>: work that has already begun and ends with a Result<T>.
//
//   T v = co_await task();                       an Error ends the caller with the same Error
//   Result<T> r = co_await task().as_result();   the caller decides
//   co_await fail(std::errc::invalid_argument);  ends the caller; never resumes
//   return next().pread(request, reply);         a plain function hands a Task on, at no cost
//   return Task<int>(7);                         a result that is ready needs no frame
//
// A Task belongs to one event loop. It starts when called and runs to its first wait. It must be
// finished before it is destroyed: something else may hold pointers into its frame.
#pragma once

#include <coroutine>
#include <exception>
#include <optional>
#include <utility>

#include "async/frame_pool.h"
#include "base/check.h"
#include "base/result.h"

namespace nbdkit {

template <typename T>
class Task;

namespace detail {

// No symmetric transfer anywhere: without the optimiser's tail calls (debug and sanitizer builds)
// it overflows the stack. A Task that finishes at once never suspends its waiter, and one that
// finishes later is resumed from the event loop, so plain resume() nests no deeper than the chain
// of waiters.
template <typename Self>
struct FinalAwaiter {
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<Self> self) const noexcept { self.promise().finish(); }
  void await_resume() const noexcept {}
};

template <typename T, typename Self>
struct PromiseBase {
  std::optional<Result<T>> result;
  std::coroutine_handle<> waiter;
  // How to end the waiter with our Error; null when it asked for a Result.
  void (*end_waiter)(std::coroutine_handle<>, Error&&) noexcept = nullptr;

  static void* operator new(std::size_t size) { return frame_pool_get(size); }
  static void operator delete(void* frame, std::size_t size) { frame_pool_put(frame, size); }

  std::suspend_never initial_suspend() const noexcept { return {}; }
  FinalAwaiter<Self> final_suspend() const noexcept { return {}; }
  // Nothing here throws on purpose, so this is a bug or memory exhaustion.
  [[noreturn]] void unhandled_exception() const noexcept { std::terminate(); }

  // May destroy this coroutine's frame: touch nothing after it.
  void finish() noexcept {
    if (!waiter) return;  // Nobody waits yet: still running from its call.
    if (end_waiter != nullptr && !result->ok())
      return end_waiter(waiter, std::move(*result).error());
    waiter.resume();
  }

  static void end_with(std::coroutine_handle<> self, Error&& error) noexcept {
    auto& promise = std::coroutine_handle<Self>::from_address(self.address()).promise();
    promise.result.emplace(std::move(error));
    promise.finish();
  }
};

template <typename T>
struct Promise : PromiseBase<T, Promise<T>> {
  Task<T> get_return_object() noexcept;
  template <typename U>
  void return_value(U&& value) {
    this->result.emplace(std::forward<U>(value));
  }
};

template <>
struct Promise<void> : PromiseBase<void, Promise<void>> {
  Task<void> get_return_object() noexcept;
  void return_void() { result.emplace(); }
};

class FailAwaiter {
 public:
  explicit FailAwaiter(Error error) : error_(std::move(error)) {}
  bool await_ready() const noexcept { return false; }
  template <typename T>
  void await_suspend(std::coroutine_handle<Promise<T>> self) noexcept {
    Error error = std::move(error_);  // Ending the coroutine may destroy this awaiter.
    Promise<T>::end_with(self, std::move(error));
  }
  void await_resume() const noexcept {}

 private:
  Error error_;
};

}  // namespace detail

inline detail::FailAwaiter fail(Error error) { return detail::FailAwaiter(std::move(error)); }
inline detail::FailAwaiter fail(std::errc code) { return fail(Error(code, {})); }

template <typename T>
class [[nodiscard]] Task {
 public:
  using promise_type = detail::Promise<T>;
  using Handle = std::coroutine_handle<promise_type>;

  explicit Task(Handle handle) noexcept : handle_(handle) {}
  Task(Result<T> ready) : ready_(std::move(ready)) {}
  Task(Task&& other) noexcept
      : handle_(std::exchange(other.handle_, {})), ready_(std::move(other.ready_)) {}
  Task& operator=(Task&&) = delete;
  ~Task() {
    if (!handle_) return;
    NBDKIT_CHECK(done());
    handle_.destroy();
  }

  bool done() const noexcept { return !handle_ || handle_.promise().result.has_value(); }
  // What it ended with. Only when done, and once.
  Result<T> take() { return std::move(slot()); }

  class ValueAwaiter {
   public:
    explicit ValueAwaiter(Task& task) : task_(task) {}
    bool await_ready() const noexcept { return task_.done() && task_.slot().ok(); }
    template <typename U>
    bool await_suspend(std::coroutine_handle<detail::Promise<U>> waiter) noexcept {
      if (!task_.done()) {
        task_.handle_.promise().waiter = waiter;
        task_.handle_.promise().end_waiter = &detail::Promise<U>::end_with;
        return true;
      }
      Error error = std::move(task_.slot()).error();
      detail::Promise<U>::end_with(waiter, std::move(error));
      return true;
    }
    T await_resume() {
      if constexpr (!std::is_void_v<T>) return std::move(task_.slot()).value();
    }

   private:
    Task& task_;
  };

  class ResultAwaiter {
   public:
    explicit ResultAwaiter(Task task) : task_(std::move(task)) {}
    bool await_ready() const noexcept { return task_.done(); }
    void await_suspend(std::coroutine_handle<> waiter) noexcept {
      task_.handle_.promise().waiter = waiter;
    }
    Result<T> await_resume() { return task_.take(); }

   private:
    Task task_;
  };

  ValueAwaiter operator co_await() && noexcept { return ValueAwaiter(*this); }
  ResultAwaiter as_result() && { return ResultAwaiter(std::move(*this)); }

 private:
  Result<T>& slot() noexcept { return handle_ ? *handle_.promise().result : *ready_; }

  Handle handle_;
  std::optional<Result<T>> ready_;
};

template <typename T>
Task<T> detail::Promise<T>::get_return_object() noexcept {
  return Task<T>(Task<T>::Handle::from_promise(*this));
}
inline Task<void> detail::Promise<void>::get_return_object() noexcept {
  return Task<void>(Task<void>::Handle::from_promise(*this));
}

// Runs a Task to its end and gives its Result to `then`; at once when it is already done. The Task
// is gone when `then` runs, so that may free what the Task used. The frame that waits frees itself.
struct Detached {
  struct promise_type {
    static void* operator new(std::size_t size) { return frame_pool_get(size); }
    static void operator delete(void* frame, std::size_t size) { frame_pool_put(frame, size); }

    Detached get_return_object() const noexcept { return {}; }
    std::suspend_never initial_suspend() const noexcept { return {}; }
    std::suspend_never final_suspend() const noexcept { return {}; }
    void return_void() const noexcept {}
    [[noreturn]] void unhandled_exception() const noexcept { std::terminate(); }
  };
};

template <typename T, typename Then>
Detached finish_later(Task<T> task, Then then) {
  Result<T> result = co_await std::move(task).as_result();
  then(std::move(result));
}

template <typename T, typename Then>
void finish(Task<T> task, Then then) {
  if (task.done()) {
    Result<T> result = Task<T>(std::move(task)).take();
    return then(std::move(result));
  }
  finish_later(std::move(task), std::move(then));
}

}  // namespace nbdkit
