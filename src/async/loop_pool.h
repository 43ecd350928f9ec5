// SPDX-License-Identifier: BSD-3-Clause
// LoopPool: the loops that serve connections, each a thread, made on demand: one for each
// connection up to a limit, then the least loaded one.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include "async/loop.h"
#include "async/thread.h"
#include "async/worker_pool.h"

namespace nbdkit {

class LoopPool {
 public:
  static constexpr std::size_t kLoopsMax = 16;
  static constexpr std::size_t kLoopsPerCpu = 4;

  explicit LoopPool(WorkerPool& workers);
  LoopPool(const LoopPool&) = delete;
  LoopPool& operator=(const LoopPool&) = delete;
  ~LoopPool();  // Stops and joins every loop. Nothing may be left on them.

  // Makes the first loop. After that no client is turned away because threads or descriptors have
  // run out: those who come then share the loops that there are.
  Result<void> prepare();
  // Makes as many and never another one. The first one, which is the first to get a connection, has
  // all the memory for its requests (Loop::stock).
  Result<void> fix(std::size_t loops);

  // Any thread. Counts one more user on the loop until release().
  Result<Loop*> acquire();
  void release(Loop& loop);

 private:
  struct Member;

  Result<Member*> add();

  WorkerPool& workers_;
  std::size_t loops_max_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Member>> members_;
};

}  // namespace nbdkit
