// SPDX-License-Identifier: BSD-3-Clause
// Backlog: texts that wait to be worked off in order, by one worker at a time, off the loops.
#pragma once

#include <condition_variable>
#include <coroutine>
#include <cstdint>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "async/job.h"
#include "async/loop.h"

namespace nbdkit {

// Thread-safe. Must be idle (finish()) when it is destroyed.
class Backlog {
 public:
  // On a worker, never twice at the same time. Gets everything that has been put meanwhile.
  using Work = std::function<void(std::span<const std::string> texts)>;

  // caught_up() lets its callers go on while no more than `left_max` texts are left.
  Backlog(std::size_t left_max, Work work) : left_max_(left_max), work_(std::move(work)) {}
  Backlog(const Backlog&) = delete;
  Backlog& operator=(const Backlog&) = delete;
  ~Backlog();

  // Works it off at once, in the caller: for when there are no other threads.
  void put_now(std::string text) { work_(std::span(&text, 1)); }

  // Everything put in one turn of a loop costs one hand-over to the workers.
  void put(Loop& loop, std::string text);
  // Ends when at most left_max of what has been put before are left.
  Task<void> caught_up(Loop& loop);

  // Waits until nothing is left, for at most `time`; false when something still is.
  bool finish(Nanoseconds time);

 private:
  // A coroutine that waits for handled_ to reach a number.
  class Waiter final : public Job {
   public:
    Waiter(Backlog& backlog, Loop& loop) : backlog_(backlog), loop_(loop) {}
    bool await_ready() const noexcept { return false; }
    bool await_suspend(std::coroutine_handle<> waiter) noexcept;
    void await_resume() const noexcept {}
    void run() noexcept override {
      loop_.work_ended();
      waiter_.resume();
    }

   private:
    friend class Backlog;
    Backlog& backlog_;
    Loop& loop_;
    std::coroutine_handle<> waiter_;
    std::uint64_t until_ = 0;
  };

  class Shift final : public Job {
   public:
    explicit Shift(Backlog& backlog) : backlog_(backlog) {}
    void run() noexcept override { backlog_.work_off(); }

   private:
    Backlog& backlog_;
  };

  void work_off();
  void resume_waiters();

  const std::size_t left_max_;
  const Work work_;
  std::mutex mutex_;
  std::condition_variable idle_;
  Shift shift_{*this};
  bool busy_ = false;  // shift_ is with the workers.
  std::vector<std::string> texts_;
  std::uint64_t put_ = 0;
  std::uint64_t handled_ = 0;
  std::vector<Waiter*> waiters_;  // As many as requests are under way.
};

}  // namespace nbdkit
