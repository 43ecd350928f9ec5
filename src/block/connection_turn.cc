// SPDX-License-Identifier: BSD-3-Clause
#include "block/connection_turn.h"

#include <coroutine>

#include "async/gate.h"
#include "base/check.h"

namespace nbdkit {

// In the frame of the coroutine that waits. Leaves the list either by being given the turn or by
// being interrupted, and resumes from its loop either way.
class ConnectionTurn::Waiter final : public Job, private Gate::Interruptible {
 public:
  Waiter(ConnectionTurn& turn, Context& context)
      : Interruptible(context.gate()), turn_(turn), context_(context) {}

  // Whether the turn is ours without waiting.
  bool await_ready() noexcept {
    if (context_.gate().closed()) {
      canceled_ = true;
      return true;
    }
    std::lock_guard lock(turn_.mutex_);
    bool again = context_.connection() != 0 && turn_.holder_ == context_.connection();
    if (turn_.held_ > 0 && !again) return false;
    turn_.holder_ = context_.connection();
    ++turn_.held_;
    return true;
  }
  bool await_suspend(std::coroutine_handle<> waiter) noexcept {
    waiter_ = waiter;
    std::lock_guard lock(turn_.mutex_);
    if (turn_.held_ == 0) {
      give();
      return false;
    }
    turn_.waiters_.push_back(this);
    return true;
  }
  // False when the connection ended first.
  bool await_resume() const noexcept { return !canceled_; }
  void run() noexcept override { waiter_.resume(); }

  // With the lock.
  void give() {
    turn_.holder_ = context_.connection();
    ++turn_.held_;
  }
  void wake() { context_.loop().post(*this); }

 private:
  void interrupt() noexcept override {
    {
      std::lock_guard lock(turn_.mutex_);
      std::size_t left = turn_.waiters_.size();
      turn_.waiters_.remove(this);
      if (turn_.waiters_.size() == left) return;  // It has been given the turn already.
    }
    canceled_ = true;
    context_.loop().defer(*this);
  }

  ConnectionTurn& turn_;
  Context& context_;
  std::coroutine_handle<> waiter_;
  bool canceled_ = false;
};

Task<void> ConnectionTurn::take(Context& context) {
  Waiter waiter(*this, context);
  bool taken = co_await waiter;
  if (!taken) co_await fail(std::errc::operation_canceled);
}

void ConnectionTurn::give_back() {
  Waiter* next = nullptr;
  {
    std::lock_guard lock(mutex_);
    NBDKIT_CHECK(held_ > 0);
    if (--held_ > 0 || waiters_.empty()) return;
    next = waiters_.front();
    waiters_.pop_front();
    next->give();
  }
  next->wake();
}

}  // namespace nbdkit
