// SPDX-License-Identifier: BSD-3-Clause
#include "async/readiness.h"

#include <coroutine>
#include <utility>

namespace nbdkit {
namespace {

class Readiness final : public Watcher, public Gate::Interruptible, public Job {
 public:
  Readiness(Loop& loop, Gate& gate) : Interruptible(gate), loop_(loop) {}
  virtual ~Readiness() = default;

  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> waiter) noexcept { waiter_ = waiter; }
  bool await_resume() const noexcept { return !interrupted_; }

 private:
  void ready(std::uint32_t) noexcept override { wake(); }
  void interrupt() noexcept override {
    interrupted_ = true;
    wake();
  }
  void run() noexcept override { waiter_.resume(); }
  void wake() {
    if (!std::exchange(woken_, true)) loop_.defer(*this);
  }

  Loop& loop_;
  std::coroutine_handle<> waiter_;
  bool woken_ = false;
  bool interrupted_ = false;
};

}  // namespace

Task<void> wait_ready(Loop& loop, Gate& gate, int fd, std::uint32_t epoll_events) {
  if (gate.closed()) co_await fail(std::errc::operation_canceled);
  Readiness readiness(loop, gate);
  Result<void> watching = loop.watch(fd, epoll_events, readiness);
  if (!watching.ok()) co_await fail(std::move(watching).error());
  bool usable = co_await readiness;
  loop.unwatch(fd, readiness);
  if (!usable) co_await fail(std::errc::operation_canceled);
}

}  // namespace nbdkit
