// SPDX-License-Identifier: BSD-3-Clause
#include "backlog.h"

#include <algorithm>

#include "base/check.h"

namespace nbdkit {

Backlog::~Backlog() { NBDKIT_CHECK(!busy_ && waiters_.empty()); }

void Backlog::put(Loop& loop, std::string text) {
  std::lock_guard guard(mutex_);
  texts_.push_back(std::move(text));
  ++put_;
  if (!std::exchange(busy_, true)) loop.submit(shift_);
}

bool Backlog::Waiter::await_suspend(std::coroutine_handle<> waiter) noexcept {
  std::lock_guard guard(backlog_.mutex_);
  if (backlog_.put_ - backlog_.handled_ <= backlog_.left_max_) return false;
  waiter_ = waiter;
  until_ = backlog_.put_ - backlog_.left_max_;
  backlog_.waiters_.push_back(this);
  loop_.work_began();
  return true;
}

Task<void> Backlog::caught_up(Loop& loop) {
  Waiter waiter(*this, loop);
  co_await waiter;
}

void Backlog::work_off() {
  std::vector<std::string> texts;
  std::unique_lock lock(mutex_);
  while (!texts_.empty()) {
    texts.clear();
    texts.swap(texts_);
    lock.unlock();
    work_(texts);
    lock.lock();
    handled_ += texts.size();
    resume_waiters();
  }
  busy_ = false;
  idle_.notify_all();
}

// A waiter may be gone as soon as it was posted.
void Backlog::resume_waiters() {
  auto done = std::partition(waiters_.begin(), waiters_.end(),
                             [&](const Waiter* waiter) { return waiter->until_ > handled_; });
  std::for_each(done, waiters_.end(), [](Waiter* waiter) { waiter->loop_.post(*waiter); });
  waiters_.erase(done, waiters_.end());
}

bool Backlog::finish(Nanoseconds time) {
  std::unique_lock lock(mutex_);
  return idle_.wait_for(lock, time, [&] { return !busy_; });
}

}  // namespace nbdkit
