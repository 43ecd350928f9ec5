// SPDX-License-Identifier: BSD-3-Clause
#include "async/busy_poll.h"

#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>

#include "async/thread.h"

namespace nbdkit {
namespace {

std::atomic<int> lookers{0};

// What a cgroup's limit of processor time takes away counts, too.
long interruptions_of_this_thread() {
  rusage usage{};
  ::getrusage(RUSAGE_THREAD, &usage);
  return usage.ru_nivcsw;
}

}  // namespace

BusyPoll::Machine BusyPoll::this_machine() {
  // Those that this process may use. Who is waited for may be a thread of the kernel with an
  // ordinary priority: a real-time thread that looks would keep it from running.
  int processors = static_cast<int>(std::thread::hardware_concurrency());
  return {Thread::policy().realtime ? 0 : processors / 2, &interruptions_of_this_thread};
}

bool BusyPoll::disturbed() {
  bool begins = looks_ == 0;
  if (looks_++ % kLooksPerCheck != 0) return false;
  long before = std::exchange(interruptions_, machine_.interruptions());
  if (begins || interruptions_ - before <= kInterruptionsMax) return false;
  looks_ = 0;  // What happens while nobody looks does not count.
  return true;
}

bool BusyPoll::begin() {
  if (machine_.lookers_max == 0) return false;
  if (left_to_skip_ > 0) {
    --left_to_skip_;
    return false;
  }
  if (disturbed()) {
    left_to_skip_ = kYieldedWaits;
    return false;
  }
  if (lookers.fetch_add(1, std::memory_order_relaxed) < machine_.lookers_max) return true;
  lookers.fetch_sub(1, std::memory_order_relaxed);
  return false;
}

void BusyPoll::end(bool found) {
  lookers.fetch_sub(1, std::memory_order_relaxed);
  skipped_ = found ? 0 : std::min(2 * skipped_ + 1, kSkippedMax);
  left_to_skip_ = skipped_;
}

}  // namespace nbdkit
