// SPDX-License-Identifier: BSD-3-Clause
// WorkerPool: threads for calls that may block. They come on demand and go when idle.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <list>
#include <mutex>

#include "async/closer.h"
#include "async/job.h"
#include "async/thread.h"
#include "base/parse.h"

namespace nbdkit {

class WorkerPool {
 public:
  static constexpr std::size_t kThreadsMax = 256;
  static constexpr Seconds kIdleMax{10};

  struct Limits {
    std::size_t threads_max = kThreadsMax;
    Nanoseconds idle_max = kIdleMax;
  };

  WorkerPool();
  explicit WorkerPool(Limits limits);
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;
  // Waits for every job. No loop that gets jobs back may be destroyed before.
  ~WorkerPool();

  // Waits for every job and ends the threads: nothing may be submitted any more. A loop that gets
  // jobs back may go only afterwards, because a worker touches it for a moment longer.
  void stop();

  // Any thread. A whole turn's jobs cost one lock. When not a single thread can be made the jobs
  // run in the caller: slow, but nobody waits for ever.
  void submit(JobQueue& jobs);
  void submit(Job& job);

  // Makes as many now, which never go, and never another one. Less than that when there cannot be
  // as many: an Error.
  Result<void> fix(std::size_t threads);

  std::size_t threads() const;

  Closer& closer() { return closer_; }

 private:
  struct Worker;

  void work(std::list<Worker>::iterator self);
  void reap(std::list<Worker>& ended);
  bool start_thread();

  Closer closer_;
  Limits limits_;
  bool fixed_ = false;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  JobQueue queue_;
  std::size_t queued_ = 0;
  std::size_t idle_ = 0;
  std::size_t starting_ = 0;  // Made, but not at work yet: they will take a job each.
  bool stopping_ = false;
  std::list<Worker> workers_;
  std::list<Worker> ended_;  // To be joined by whoever comes next.
};

}  // namespace nbdkit
