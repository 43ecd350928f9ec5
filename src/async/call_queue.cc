// SPDX-License-Identifier: BSD-3-Clause
#include "async/call_queue.h"

namespace nbdkit {

void CallQueue::Call::start() {
  loop_.work_began();
  {
    std::lock_guard lock(queue_.mutex_);
    if (queue_.running_ == queue_.width_) return queue_.waiting_.push(*this);
    ++queue_.running_;
  }
  loop_.submit(*this);
}

bool CallQueue::enter() {
  std::lock_guard lock(mutex_);
  if (running_ == width_) return false;
  ++running_;
  return true;
}

// Whoever has come meanwhile, from another loop, goes on a worker.
void CallQueue::leave(Loop& loop) {
  if (Call* call = next()) loop.submit(*call);
}

CallQueue::Call* CallQueue::next() {
  std::lock_guard lock(mutex_);
  Job* job = waiting_.pop();
  if (job == nullptr) --running_;
  return static_cast<Call*>(job);
}

void CallQueue::Call::run() noexcept {
  if (executed_) {
    loop_.work_ended();
    return done();
  }
  // The same worker goes on with what waits: handing it over would cost a wake-up for each call.
  for (Call* call = this; call != nullptr;) {
    call->execute();
    call->executed_ = true;
    // Posting may end the call, and the queue with it when nothing waits.
    Call* next = call->queue_.next();
    call->loop_.post(*call);
    call = next;
  }
}

}  // namespace nbdkit
