// SPDX-License-Identifier: BSD-3-Clause
#include "async/timers.h"

namespace nbdkit {

Timer::~Timer() {
  if (armed()) heap_->disarm(*this);
}

void Timers::place(Timer* timer, std::size_t at) {
  heap_[at] = timer;
  timer->place_ = at;
}

void Timers::sift_up(std::size_t at) {
  Timer* timer = heap_[at];
  while (at > 0) {
    std::size_t parent = (at - 1) / 2;
    if (heap_[parent]->when_ <= timer->when_) break;
    place(heap_[parent], at);
    at = parent;
  }
  place(timer, at);
}

void Timers::sift_down(std::size_t at) {
  Timer* timer = heap_[at];
  for (;;) {
    std::size_t child = 2 * at + 1;
    if (child >= heap_.size()) break;
    if (child + 1 < heap_.size() && heap_[child + 1]->when_ < heap_[child]->when_) ++child;
    if (timer->when_ <= heap_[child]->when_) break;
    place(heap_[child], at);
    at = child;
  }
  place(timer, at);
}

void Timers::arm(Timer& timer, Nanoseconds when) {
  disarm(timer);
  timer.heap_ = this;
  timer.when_ = when > expiring_until_ ? when : expiring_until_ + Nanoseconds(1);
  heap_.push_back(&timer);
  sift_up(heap_.size() - 1);
}

void Timers::disarm(Timer& timer) {
  if (!timer.armed()) return;
  std::size_t at = timer.place_;
  Timer* last = heap_.back();
  heap_.pop_back();
  timer.place_ = Timer::kNowhere;
  if (last == &timer) return;
  place(last, at);
  sift_up(at);
  sift_down(last->place_);
}

void Timers::run_expired(Nanoseconds now) {
  expiring_until_ = now;
  while (!heap_.empty() && heap_.front()->when_ <= now) {
    Timer* timer = heap_.front();
    disarm(*timer);
    timer->expired();
  }
  expiring_until_ = Nanoseconds::min();
}

}  // namespace nbdkit
