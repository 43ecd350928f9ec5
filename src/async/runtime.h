// SPDX-License-Identifier: BSD-3-Clause
// Runtime: the threads of one process, and the order in which they end.
#pragma once

#include "async/loop.h"
#include "async/loop_pool.h"
#include "async/worker_pool.h"

namespace nbdkit {

// Made after the last fork: threads do not survive one. Whoever hands a job to another thread's
// loop touches that loop for a moment after the job has run, so workers end before any loop, and
// the connections' loops before the main one.
class Runtime {
 public:
  Runtime() = default;
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;
  ~Runtime() { workers_.stop(); }

  // Run by the thread that made the Runtime, or one that it starts for that.
  Loop& main_loop() { return main_loop_; }
  LoopPool& loops() { return loops_; }
  WorkerPool& workers() { return workers_; }

 private:
  WorkerPool workers_;
  Loop main_loop_{workers_};
  LoopPool loops_{workers_};
};

}  // namespace nbdkit
