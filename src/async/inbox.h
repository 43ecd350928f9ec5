// SPDX-License-Identifier: BSD-3-Clause
// Inbox: how other threads hand jobs to a loop. A lock-free list and an eventfd that is written
// only when the loop said that it is going to sleep.
#pragma once

#include <atomic>

#include "async/job.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace nbdkit {

class Inbox {
 public:
  Inbox() = default;
  Inbox(const Inbox&) = delete;
  Inbox& operator=(const Inbox&) = delete;
  ~Inbox();

  // Before anything else. Errors: no descriptor is left.
  Result<void> open();

  // To be watched edge-triggered: every write is an edge, and nobody ever reads it.
  int wake_fd() const { return wake_.get(); }

  // Any thread.
  void push(Job& job);
  void wake();  // Ends the loop's wait.

  // The loop's thread only, from here on.

  bool empty() const { return newest_.load(std::memory_order_relaxed) == nullptr; }
  // To be called before a wait: false when a job is already there and the loop must not sleep.
  bool prepare_to_sleep();
  void awake();
  // All that has arrived, oldest first.
  JobQueue take();

 private:
  UniqueFd wake_;
  std::atomic<Job*> newest_{nullptr};
  std::atomic<bool> sleeping_{false};
  std::atomic<int> pushing_{0};  // Threads that are inside push().
};

}  // namespace nbdkit
