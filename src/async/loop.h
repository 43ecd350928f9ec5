// SPDX-License-Identifier: BSD-3-Clause
// Loop: one thread's epoll loop. What lives on a loop is used by its thread only and needs no lock.
//
// A turn: wait (without sleeping for a moment where that pays: async/busy_poll.h); run what other
// threads posted and what is due; tell the watchers; run the deferred jobs; then those of the
// turn's end (where connections send everything that is ready with one system call); and hand the
// turn's blocking calls to the workers under one lock.
#pragma once

#include <sys/epoll.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <memory>
#include <optional>
#include <span>
#include <type_traits>

#include "async/buffer_pool.h"
#include "async/busy_poll.h"
#include "async/gate.h"
#include "async/inbox.h"
#include "async/job.h"
#include "async/task.h"
#include "async/timers.h"
#include "async/worker_pool.h"
#include "base/parse.h"
#include "base/unique_fd.h"

namespace nbdkit {

// Told about a descriptor's readiness.
class Watcher {
 public:
  virtual void ready(std::uint32_t epoll_events) noexcept = 0;

 protected:
  ~Watcher() = default;
};

namespace detail {
template <typename Function>
class BlockingCall;
}  // namespace detail

class Loop {
 public:
  static constexpr std::size_t kScratchSize = 512 * 1024;
  // In front of the scratch: room for what was left over from the last receive.
  static constexpr std::size_t kScratchHeadroom = 64;

  explicit Loop(WorkerPool& workers);
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;
  virtual ~Loop();

  // Whether the constructor got the descriptors that it needs. To be asked before anything else;
  // without them a loop can only be destroyed.
  Result<void> usable() const;

  // Any thread.
  void post(Job& job) { inbox_.push(job); }
  void stop();  // run() returns after the current turn, or at once when it is called next.

  // From here on: the loop's thread only.

  void run();

  // CLOCK_MONOTONIC at the beginning of this turn.
  Nanoseconds now() const { return now_; }
  Timers& timers() { return timers_; }
  // Ends with operation_canceled when the gate closes first.
  Task<void> sleep(Nanoseconds delay, Gate& gate);

  // Level-triggered. One watcher a descriptor; it must be unwatched before either is gone.
  Result<void> watch(int fd, std::uint32_t epoll_events, Watcher& watcher);
  void change_watch(int fd, std::uint32_t epoll_events, Watcher& watcher);
  void unwatch(int fd, Watcher& watcher);

  // Runs later in this turn, before the loop waits again.
  void defer(Job& job) { deferred_.push(job); }
  // Runs in the next turn, which does not wait: for who has more to do but lets others go first.
  void at_next_turn(Job& job) { next_turn_.push(job); }
  // Runs when nothing else is left to do in this turn.
  void at_turn_end(Job& job) { turn_end_.push(job); }

  // Runs `function` on a worker and ends with the Result<T> that it returns.
  //   std::int64_t size = co_await loop.blocking([&] { return measure(fd); });
  template <typename Function>
  Task<typename std::invoke_result_t<Function&>::value_type> blocking(Function function);
  // Hands a job to the workers at the end of this turn.
  void submit(Job& job) { submissions_.push(job); }
  // Closes a descriptor that came from others: on a thread of its own, as that may block.
  void close_elsewhere(UniqueFd fd) { workers_.closer().close(std::move(fd)); }
  // Around work on other threads that will post back to this loop, where blocking() is not used:
  // virtual time waits for it.
  void work_began() { ++blocking_; }
  void work_ended() { --blocking_; }

  // Memory to receive into, shared by all on this loop: valid until the caller returns or waits.
  // kScratchHeadroom bytes before it are usable too.
  std::span<std::byte> scratch();
  BufferPool& buffers() { return buffers_; }

  // What kStockedRequests requests under way on this loop can need at a time.
  static constexpr std::size_t kStockedRequests = 128;
  static constexpr std::size_t kStockedFrameMax = 768;  // bytes of a coroutine's frame
  static constexpr std::size_t kStockedFrames = 2 * kStockedRequests;  // of each size
  static constexpr std::size_t kStockedTimers = 4 * kStockedRequests;
  // Takes all of that now, so that no request needs memory. Once is enough.
  Result<void> stock();

 protected:
  // The doors to the outside, for virtual time in tests.
  virtual Nanoseconds read_clock();
  virtual int wait(std::span<epoll_event> events, Nanoseconds until);
  // Events that come before there is any need to sleep.
  virtual int look(std::span<epoll_event> events, Nanoseconds until);

  int wait_for_events(std::span<epoll_event> events, Nanoseconds timeout);
  void set_now(Nanoseconds now) { now_ = now; }
  bool blocking_under_way() const { return blocking_ > 0; }

 private:
  template <typename Function>
  friend class detail::BlockingCall;

  static constexpr std::size_t kEventsMax = 128;

  Result<void> open();
  void turn();
  void dispatch();
  void run_local_jobs();
  void finish_turn();

  WorkerPool& workers_;
  UniqueFd epoll_;
  Inbox inbox_;
  Timers timers_;
  Nanoseconds now_;
  JobQueue deferred_;
  JobQueue turn_end_;
  JobQueue next_turn_;
  JobQueue submissions_;
  std::size_t blocking_ = 0;  // Work on other threads that will come back.
  BufferPool buffers_;
  std::unique_ptr<std::byte[]> scratch_;
  std::atomic<bool> stopping_{false};
  const Result<void> opened_;
  BusyPoll busy_poll_;
  std::array<epoll_event, kEventsMax> events_;
  int events_count_ = 0;  // Of events_, until they are dispatched.
};

namespace detail {

// A call that is on its way through a worker: run() first there, then on the loop.
template <typename Function>
class BlockingCall final : public Job {
 public:
  using R = std::invoke_result_t<Function&>;

  BlockingCall(Loop& loop, Function& function) : loop_(loop), function_(function) {}
  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> waiter) noexcept {
    waiter_ = waiter;
    ++loop_.blocking_;
    loop_.submit(*this);
  }
  R await_resume() noexcept { return std::move(*result_); }

  void run() noexcept override {
    if (result_) {
      --loop_.blocking_;
      return waiter_.resume();
    }
    result_.emplace(function_());
    loop_.post(*this);
  }

 private:
  Loop& loop_;
  Function& function_;
  std::coroutine_handle<> waiter_;
  std::optional<R> result_;
};

}  // namespace detail

// g++ warns of the frame of a coroutine that has a local type in it, such as any lambda's.
#pragma GCC diagnostic push
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wsubobject-linkage"
#endif
template <typename Function>
Task<typename std::invoke_result_t<Function&>::value_type> Loop::blocking(Function function) {
  detail::BlockingCall<Function> call(*this, function);
  auto result = co_await call;
  if (!result.ok()) co_await fail(std::move(result).error());
  if constexpr (!std::is_void_v<typename decltype(result)::value_type>) {
    co_return std::move(result).value();
  }
}
#pragma GCC diagnostic pop

}  // namespace nbdkit
