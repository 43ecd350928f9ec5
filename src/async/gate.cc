// SPDX-License-Identifier: BSD-3-Clause
#include "async/gate.h"

#include <utility>

#include "async/loop.h"

namespace nbdkit {

// Resumes from the loop and not from leave(): who leaves may still stand in what the waiter frees.
class Gate::Drain final : public Job {
 public:
  explicit Drain(Gate& gate) : gate_(gate) {}
  bool await_ready() const noexcept { return gate_.inside_ == 0; }
  void await_suspend(std::coroutine_handle<> waiter) noexcept {
    waiter_ = waiter;
    NBDKIT_CHECK(gate_.waiter_ == nullptr);
    gate_.waiter_ = this;
  }
  void await_resume() const noexcept {}
  void run() noexcept override { waiter_.resume(); }

 private:
  Gate& gate_;
  std::coroutine_handle<> waiter_;
};

Gate::~Gate() { NBDKIT_CHECK(inside_ == 0 && first_ == nullptr); }

bool Gate::enter() {
  if (closed_) return false;
  ++inside_;
  return true;
}

void Gate::leave() {
  NBDKIT_CHECK(inside_ > 0);
  --inside_;
  if (inside_ == 0 && waiter_ != nullptr) loop_.defer(*std::exchange(waiter_, nullptr));
}

void Gate::close() {
  closed_ = true;
  while (first_ != nullptr) {
    Interruptible* one = first_;
    one->unlink();
    one->interrupt();
  }
}

Task<void> Gate::drained() {
  close();
  Drain drain(*this);
  co_await drain;
}

Gate::Interruptible::Interruptible(Gate& gate) : gate_(gate), next_(gate.first_) {
  if (next_ != nullptr) next_->previous_ = this;
  gate_.first_ = this;
}

Gate::Interruptible::~Interruptible() {
  if (linked_) unlink();
}

void Gate::Interruptible::unlink() {
  (previous_ != nullptr ? previous_->next_ : gate_.first_) = next_;
  if (next_ != nullptr) next_->previous_ = previous_;
  linked_ = false;
}

}  // namespace nbdkit
