// SPDX-License-Identifier: BSD-3-Clause
#include "support/test_loop.h"

namespace nbdkit {

int TestLoop::wait(std::span<epoll_event> events, Nanoseconds until) {
  if (until <= time_) return wait_for_events(events, Nanoseconds(0));
  bool timer = until != Timers::kNever;
  // Real time for what real descriptors and workers do; virtual time only when they are silent.
  int count =
      wait_for_events(events, timer && !blocking_under_way() ? Nanoseconds(0) : Timers::kNever);
  if (count == 0 && timer) time_ = until;
  return count;
}

}  // namespace nbdkit
