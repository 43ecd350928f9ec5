// SPDX-License-Identifier: BSD-3-Clause
#include "async/loop.h"

#include <algorithm>
#include <ctime>

#include "base/check.h"
#include "base/clock.h"

namespace nbdkit {
namespace {

// A coroutine that waits for a time, or for its gate to close.
class Sleeper final : public Timer, public Gate::Interruptible, public Job {
 public:
  Sleeper(Loop& loop, Gate& gate, Nanoseconds until)
      : Interruptible(gate), loop_(loop), until_(until) {}
  virtual ~Sleeper() = default;

  bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> waiter) noexcept {
    waiter_ = waiter;
    loop_.timers().arm(*this, until_);
  }
  // Whether the whole time has passed.
  bool await_resume() const noexcept { return !interrupted_; }

 private:
  void expired() noexcept override {
    if (!interrupted_) waiter_.resume();
  }
  void interrupt() noexcept override {
    interrupted_ = true;
    loop_.timers().disarm(*this);
    loop_.defer(*this);
  }
  void run() noexcept override { waiter_.resume(); }

  Loop& loop_;
  Nanoseconds until_;
  std::coroutine_handle<> waiter_;
  bool interrupted_ = false;
};

}  // namespace

Loop::Loop(WorkerPool& workers) : workers_(workers), now_(monotonic_now()), opened_(open()) {}

Result<void> Loop::open() {
  epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_) return os_error("epoll_create");
  NBDKIT_TRY(inbox_.open());
  epoll_event event{};
  event.events = EPOLLIN | EPOLLET;  // Nobody reads it: every write is an edge.
  event.data.ptr = nullptr;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, inbox_.wake_fd(), &event) != 0) {
    return os_error("epoll_ctl");
  }
  return {};
}

Loop::~Loop() = default;

Result<void> Loop::usable() const {
  if (opened_.ok()) return {};
  return Error(opened_.error().code, std::string(opened_.error().detail()));
}

void Loop::stop() {
  stopping_.store(true);
  inbox_.wake();
}

void Loop::run() {
  NBDKIT_CHECK(usable().ok());
  finish_turn();  // What was left here before anybody ran this loop must not wait for an event.
  while (!stopping_.exchange(false)) turn();
  // What was posted before the stop is still done.
  JobQueue arrived = inbox_.take();
  deferred_.append(arrived);
  run_local_jobs();
}

void Loop::finish_turn() {
  run_local_jobs();
  if (!submissions_.empty()) workers_.submit(submissions_);
}

Nanoseconds Loop::read_clock() { return monotonic_now(); }

int Loop::wait_for_events(std::span<epoll_event> events, Nanoseconds timeout) {
  // epoll_wait() counts in milliseconds; a delay of 100 us must not take one.
  timespec time{};
  timespec* limit = nullptr;
  if (timeout != Timers::kNever) {
    timeout = std::max(timeout, Nanoseconds(0));
    time.tv_sec = std::chrono::duration_cast<Seconds>(timeout).count();
    time.tv_nsec = (timeout % Seconds(1)).count();
    limit = &time;
  }
  int room = static_cast<int>(events.size());
  int count = ::epoll_pwait2(epoll_.get(), events.data(), room, limit, nullptr);
  if (count < 0 && errno == ENOSYS) {  // Before Linux 5.11, and some sandboxes.
    constexpr Nanoseconds kLongest = Seconds(3600);
    auto whole = std::chrono::ceil<Milliseconds>(std::min(timeout, kLongest));
    count = ::epoll_wait(epoll_.get(), events.data(), room,
                         limit == nullptr ? -1 : static_cast<int>(whole.count()));
  }
  return std::max(count, 0);  // Only EINTR is left.
}

int Loop::wait(std::span<epoll_event> events, Nanoseconds until) {
  return wait_for_events(events, until == Timers::kNever ? until : until - now_);
}

int Loop::look(std::span<epoll_event> events, Nanoseconds until) {
  if (until <= now_ || !busy_poll_.begin()) return 0;
  const Nanoseconds end = std::min(until, read_clock() + BusyPoll::kLongest);
  int count = 0;
  do {
    count = wait_for_events(events, Nanoseconds(0));
  } while (count == 0 && inbox_.empty() && read_clock() < end);
  busy_poll_.end(count > 0 || !inbox_.empty());
  return count;
}

void Loop::turn() {
  Nanoseconds until = next_turn_.empty() ? timers_.next() : now_;
  int count = look(events_, until);
  if (count > 0) {
    // There is no need to wait.
  } else if (inbox_.prepare_to_sleep()) {
    count = wait(events_, until);
    inbox_.awake();
  } else {
    count = wait(events_, now_);
  }
  now_ = read_clock();
  events_count_ = count;  // Timers may unwatch, too.
  JobQueue arrived = inbox_.take();
  deferred_.append(arrived);
  deferred_.append(next_turn_);
  timers_.run_expired(now_);
  dispatch();
  finish_turn();
}

void Loop::dispatch() {
  for (int i = 0; i < events_count_; ++i) {
    auto* watcher = static_cast<Watcher*>(events_[i].data.ptr);
    if (watcher != nullptr) watcher->ready(events_[i].events);
  }
  events_count_ = 0;
}

void Loop::run_local_jobs() {
  for (;;) {
    if (Job* job = deferred_.pop()) {
      job->run();
    } else if (Job* last = turn_end_.pop()) {
      last->run();
    } else {
      return;
    }
  }
}

Result<void> Loop::watch(int fd, std::uint32_t epoll_events, Watcher& watcher) {
  epoll_event event{};
  event.events = epoll_events;
  event.data.ptr = &watcher;
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) < 0) return os_error("epoll_ctl");
  return {};
}

void Loop::change_watch(int fd, std::uint32_t epoll_events, Watcher& watcher) {
  epoll_event event{};
  event.events = epoll_events;
  event.data.ptr = &watcher;
  NBDKIT_CHECK(::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, fd, &event) == 0);
}

void Loop::unwatch(int fd, Watcher& watcher) {
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
  // Events of this turn that were not told yet must not reach a watcher that is about to go.
  for (int i = 0; i < events_count_; ++i) {
    if (events_[i].data.ptr == &watcher) events_[i].data.ptr = nullptr;
  }
}

Task<void> Loop::sleep(Nanoseconds delay, Gate& gate) {
  if (gate.closed()) co_await fail(std::errc::operation_canceled);
  Sleeper sleeper(*this, gate, now_ + delay);
  bool whole = co_await sleeper;
  if (!whole) co_await fail(std::errc::operation_canceled);
}

Result<void> Loop::stock() {
  if (buffers_.is_stocked()) return {};
  NBDKIT_TRY(buffers_.stock());
  frame_pool_stock(kStockedFrameMax, kStockedFrames);
  timers_.reserve(kStockedTimers);
  std::span<std::byte> whole = scratch();
  std::fill(whole.begin(), whole.end(), std::byte{0});
  return {};
}

std::span<std::byte> Loop::scratch() {
  if (!scratch_) {
    scratch_ = std::make_unique_for_overwrite<std::byte[]>(kScratchHeadroom + kScratchSize);
  }
  return {scratch_.get() + kScratchHeadroom, kScratchSize};
}

}  // namespace nbdkit
