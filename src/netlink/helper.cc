// SPDX-License-Identifier: BSD-3-Clause
#include "netlink/helper.h"

#include <condition_variable>
#include <deque>
#include <mutex>
#include <vector>

#include "async/thread.h"
#include "base/check.h"

namespace nbdkit {

// The coroutine that waits for a call: ended by the thread's post, by the timer, or by close().
class Helper::Wait final : public Timer, public Job {
 public:
  enum class End { done, late, canceled };

  Wait(Loop& loop, Shared& shared, std::shared_ptr<Call> call, Nanoseconds until)
      : loop_(loop), shared_(shared), call_(std::move(call)), until_(until) {}
  virtual ~Wait() = default;

  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> waiter) noexcept;
  End await_resume() const noexcept { return end_; }

  void cancel() { finish(End::canceled); }
  void run() noexcept override { finish(End::done); }

 private:
  void expired() noexcept override;
  void finish(End end) {
    loop_.timers().disarm(*this);
    end_ = end;
    waiter_.resume();
  }

  Loop& loop_;
  Shared& shared_;
  std::shared_ptr<Call> call_;
  Nanoseconds until_;
  std::coroutine_handle<> waiter_;
  End end_ = End::canceled;
};

namespace {

// close() waiting for the thread's end.
class HelperEnd final : public Timer, public Job {
 public:
  explicit HelperEnd(Loop& loop) : loop_(loop) {}
  virtual ~HelperEnd() = default;

  void arm(Nanoseconds until) { loop_.timers().arm(*this, until); }
  bool await_ready() const noexcept { return ended_; }
  void await_suspend(std::coroutine_handle<> waiter) noexcept { waiter_ = waiter; }
  bool await_resume() const noexcept { return ended_; }

  // The thread has gone, on the loop.
  void run() noexcept override {
    loop_.timers().disarm(*this);
    ended_ = true;
    if (waiter_) waiter_.resume();
  }

 private:
  void expired() noexcept override { waiter_.resume(); }

  Loop& loop_;
  std::coroutine_handle<> waiter_;
  bool ended_ = false;
};

}  // namespace

// What the thread and the loop both use; the thread may outlive the Helper and then touches
// nothing else.
class Helper::Shared {
 public:
  explicit Shared(Loop& loop) : loop_(loop) {}

  void work();

  void add(std::shared_ptr<Call> call, Wait& wait) {
    std::lock_guard lock(mutex_);
    call->waiter = &wait;
    calls_.push_back(std::move(call));
    wake_.notify_one();
  }

  // False when its end has been posted already.
  bool give_up(const std::shared_ptr<Call>& call) {
    std::lock_guard lock(mutex_);
    if (call->waiter == nullptr) return false;
    call->waiter = nullptr;
    // The front one is being carried out.
    for (auto one = calls_.begin() + (running_ ? 1 : 0); one != calls_.end(); ++one) {
      if (*one != call) continue;
      calls_.erase(one);
      break;
    }
    return true;
  }

  void stop(HelperEnd* told) {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    end_ = told;
    wake_.notify_one();
  }

  // Who still waits, when the thread is left behind. Nobody is told anything after this. False
  // when the thread's end has been posted already.
  bool abandon(std::vector<Wait*>& waits) {
    std::lock_guard lock(mutex_);
    if (ended_) return false;
    end_ = nullptr;
    for (auto& call : calls_) {
      if (call->waiter != nullptr) waits.push_back(std::exchange(call->waiter, nullptr));
    }
    calls_.erase(calls_.begin() + (running_ ? 1 : 0), calls_.end());
    return true;
  }

  std::optional<Thread> thread;  // The loop's.
  bool closed = false;           // The loop's.

 private:
  std::shared_ptr<Call> next();

  Loop& loop_;  // Only while somebody waits there.
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::shared_ptr<Call>> calls_;
  bool running_ = false;
  bool stopping_ = false;
  bool ended_ = false;
  HelperEnd* end_ = nullptr;
};

std::shared_ptr<Helper::Call> Helper::Shared::next() {
  std::unique_lock lock(mutex_);
  wake_.wait(lock, [this] { return stopping_ || !calls_.empty(); });
  if (calls_.empty()) return nullptr;
  running_ = true;
  return calls_.front();
}

void Helper::Shared::work() {
  while (std::shared_ptr<Call> call = next()) {
    call->run();
    std::unique_lock lock(mutex_);
    calls_.pop_front();
    running_ = false;
    // Posted with the lock held: whoever gives up asks under it whether it is too late for that.
    Wait* waiter = std::exchange(call->waiter, nullptr);
    if (waiter != nullptr) loop_.post(*waiter);
    lock.unlock();
    if (waiter == nullptr) call->run_late();
  }
  std::lock_guard lock(mutex_);
  ended_ = true;
  if (end_ != nullptr) loop_.post(*end_);
}

void Helper::Wait::await_suspend(std::coroutine_handle<> waiter) noexcept {
  waiter_ = waiter;
  loop_.timers().arm(*this, until_);
  shared_.add(call_, *this);
}

void Helper::Wait::expired() noexcept {
  if (shared_.give_up(call_)) finish(End::late);
}

Helper::Helper(Loop& loop, std::string name)
    : loop_(loop), name_(std::move(name)), shared_(std::make_shared<Shared>(loop)) {}

Helper::~Helper() { NBDKIT_CHECK(!shared_->thread.has_value()); }

Task<void> Helper::carry_out(std::shared_ptr<Call> call, Nanoseconds deadline) {
  if (shared_->closed) co_await fail(std::errc::operation_canceled);
  if (!shared_->thread) {
    auto thread = Thread::start(name_, 0, [shared = shared_] {
      Thread::serves();
      shared->work();
    });
    if (!thread.ok()) co_await fail(std::move(thread).error());
    shared_->thread.emplace(std::move(thread).value());
  }
  Wait wait(loop_, *shared_, std::move(call), loop_.now() + deadline);
  Wait::End end = co_await wait;
  if (end == Wait::End::late) co_await fail(std::errc::timed_out);
  if (end == Wait::End::canceled) co_await fail(std::errc::operation_canceled);
}

Task<bool> Helper::close(Nanoseconds patience) {
  shared_->closed = true;
  if (!shared_->thread) co_return true;
  HelperEnd end(loop_);
  end.arm(loop_.now() + patience);
  shared_->stop(&end);
  bool ended = co_await end;
  std::vector<Wait*> waits;
  if (!ended && !shared_->abandon(waits)) ended = co_await end;  // It ends right now.
  if (ended) {
    shared_->thread->join();
  } else {
    shared_->thread->detach();
  }
  shared_->thread.reset();
  for (Wait* wait : waits) wait->cancel();
  co_return ended;
}

}  // namespace nbdkit
