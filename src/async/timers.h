// SPDX-License-Identifier: BSD-3-Clause
// Timers: what a loop has to do later. A binary heap of timers that live in their owners.
#pragma once

#include <cstddef>
#include <limits>
#include <vector>

#include "base/parse.h"

namespace nbdkit {

// Not copied or moved while it is in the heap; leaves it in its destructor.
class Timer {
 public:
  Timer() = default;
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;

  bool armed() const { return place_ != kNowhere; }

 protected:
  ~Timer();
  virtual void expired() noexcept = 0;  // It has left the heap and may be armed again, or ended.

 private:
  friend class Timers;
  static constexpr std::size_t kNowhere = std::numeric_limits<std::size_t>::max();

  class Timers* heap_ = nullptr;
  std::size_t place_ = kNowhere;
  Nanoseconds when_{0};
};

// One loop's; its thread only.
class Timers {
 public:
  static constexpr Nanoseconds kNever = Nanoseconds::max();

  // Moves it when it is armed already. What is armed while others expire waits for the next turn,
  // even when it is due: a loop of sleep(0) must not keep the sockets from being served.
  void arm(Timer& timer, Nanoseconds when);
  void disarm(Timer& timer);
  Nanoseconds next() const { return heap_.empty() ? kNever : heap_.front()->when_; }
  // Room for so many at a time.
  void reserve(std::size_t timers) { heap_.reserve(timers); }
  // Runs what is due at `now`, earliest first.
  void run_expired(Nanoseconds now);

 private:
  void place(Timer* timer, std::size_t at);
  void sift_up(std::size_t at);
  void sift_down(std::size_t at);

  std::vector<Timer*> heap_;
  Nanoseconds expiring_until_ = Nanoseconds::min();  // While run_expired() is at work.
};

}  // namespace nbdkit
