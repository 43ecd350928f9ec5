// SPDX-License-Identifier: BSD-3-Clause
// A guarded thread that never waits, until it is among the others again.
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/resource.h>

#include <chrono>

#include "async/thread.h"
#include "guard/guards.h"

namespace nbdkit {
namespace {

int policy() { return ::sched_getscheduler(0) & ~SCHED_RESET_ON_FORK; }

// How it was at the beginning; until it is not so any more, or for ten times as long as it may.
int busy_from() {
  Thread::serves();
  int first = policy();
  auto until =
      std::chrono::steady_clock::now() + 10 * std::chrono::microseconds(Guards::kRealtimeMaxUs);
  while (policy() == first && std::chrono::steady_clock::now() < until) {
  }
  return first;
}

TEST(Realtime, WhoNeverWaitsIsOrdinaryAgain) {
  Guards guards;
  guards.lock();
  ASSERT_TRUE(guards.complete()) << guards.missing();
  for (int i = 0; i < 2; ++i) {
    int before = SCHED_OTHER;
    int after = SCHED_FIFO;
    Result<Thread> busy = Thread::start("busy", 0, [&before, &after] {
      before = busy_from();
      after = policy();
    });
    ASSERT_TRUE(busy.ok());
    busy.value().join();
    EXPECT_EQ(before, SCHED_FIFO);
    EXPECT_EQ(after, SCHED_OTHER);
    // The next one may not have it for longer.
    rlimit limit{};
    ::getrlimit(RLIMIT_RTTIME, &limit);
    EXPECT_EQ(limit.rlim_cur, Guards::kRealtimeMaxUs);
  }
  EXPECT_EQ(policy(), SCHED_FIFO);
}

}  // namespace
}  // namespace nbdkit
