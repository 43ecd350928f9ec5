// SPDX-License-Identifier: BSD-3-Clause
#include "async/range_lock.h"

#include "async/loop.h"
#include "base/check.h"

namespace nbdkit {

RangeLock::~RangeLock() { NBDKIT_CHECK(oldest_ == nullptr); }

bool RangeLock::Hold::conflicts_with(const Hold& other) const {
  if (mode_ == Mode::shared && other.mode_ == Mode::shared) return false;
  return from_ < other.to_ && other.from_ < to_;
}

bool RangeLock::must_wait(const Hold& hold) const {
  for (const Hold* before = oldest_; before != &hold; before = before->next_) {
    if (before->conflicts_with(hold)) return true;
  }
  return false;
}

bool RangeLock::Hold::await_suspend(std::coroutine_handle<> waiter) noexcept {
  NBDKIT_CHECK(!linked_);
  waiter_ = waiter;
  linked_ = true;
  std::lock_guard guard(lock_.mutex_);
  previous_ = lock_.newest_;
  (previous_ != nullptr ? previous_->next_ : lock_.oldest_) = this;
  lock_.newest_ = this;
  granted_ = !lock_.must_wait(*this);
  return !granted_;
}

RangeLock::Hold::~Hold() {
  if (!linked_) return;
  std::lock_guard guard(lock_.mutex_);
  NBDKIT_CHECK(granted_);
  (previous_ != nullptr ? previous_->next_ : lock_.oldest_) = next_;
  (next_ != nullptr ? next_->previous_ : lock_.newest_) = previous_;
  // Only who waited for us can go on now. It may be resumed on its own loop at once, but to go away
  // it needs the mutex.
  for (Hold* later = next_; later != nullptr; later = later->next_) {
    if (later->granted_ || !conflicts_with(*later) || lock_.must_wait(*later)) continue;
    later->granted_ = true;
    later->loop_.post(*later);
  }
}

}  // namespace nbdkit
