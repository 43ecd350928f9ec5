// SPDX-License-Identifier: BSD-3-Clause
// RangeLock: who may touch which part of something that coroutines on several loops share. Waiting
// blocks no thread.
//
//   RangeLock::Hold hold(lock, loop, offset, end, RangeLock::Mode::exclusive);
//   co_await hold;  // from here on, until `hold` goes
#pragma once

#include <coroutine>
#include <cstdint>
#include <mutex>

#include "async/job.h"

namespace nbdkit {

class Loop;

// Thread-safe. First come, first served: who conflicts with a holder, or with somebody who waits
// for one, waits as well, so nobody starves. A coroutine that takes everything it needs with one
// Hold cannot deadlock.
class RangeLock {
 public:
  enum class Mode { shared, exclusive };

  RangeLock() = default;
  RangeLock(const RangeLock&) = delete;
  RangeLock& operator=(const RangeLock&) = delete;
  ~RangeLock();  // Nobody may hold or wait.

  // Lives in the coroutine that awaits it, once; that coroutine's loop is `loop`. Two holds
  // conflict when their ranges [from, to) have a byte in common and one of them is exclusive.
  class Hold final : private Job {
   public:
    Hold(RangeLock& lock, Loop& loop, std::uint64_t from, std::uint64_t to, Mode mode)
        : lock_(lock), loop_(loop), from_(from), to_(to), mode_(mode) {}
    Hold(const Hold&) = delete;
    Hold& operator=(const Hold&) = delete;
    ~Hold();

    bool await_ready() noexcept { return false; }
    // False, and the coroutine goes on at once, when nobody is in the way.
    bool await_suspend(std::coroutine_handle<> waiter) noexcept;
    void await_resume() const noexcept {}

   private:
    friend class RangeLock;

    void run() noexcept override { waiter_.resume(); }
    bool conflicts_with(const Hold& other) const;

    RangeLock& lock_;
    Loop& loop_;
    const std::uint64_t from_;
    const std::uint64_t to_;
    const Mode mode_;
    std::coroutine_handle<> waiter_;
    bool linked_ = false;   // Only the coroutine itself looks at this one.
    bool granted_ = false;  // The rest is the lock's.
    Hold* previous_ = nullptr;
    Hold* next_ = nullptr;
  };

 private:
  bool must_wait(const Hold& hold) const;

  std::mutex mutex_;
  // Holders and waiters in the order in which they came. As many as requests are under way on all
  // connections, so a list is enough.
  Hold* oldest_ = nullptr;
  Hold* newest_ = nullptr;
};

}  // namespace nbdkit
