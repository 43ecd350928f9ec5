// SPDX-License-Identifier: BSD-3-Clause
// Sync: one write-back at a time, shared by all who wait for it, and the memory of its failure.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>

#include "base/result.h"

namespace nbdkit {

// The kernel reports a failed write-back to one caller for each open file, whoever comes first.
// With two of them under way the other one would be told that all is well; therefore they never
// overlap. Those who come while one is under way share the next one.
class Sync {
 public:
  // Whether a write-back has failed: from then on nothing succeeds.
  bool lost() const;

  // On a worker. `sync()` writes back everything that was written before it was called.
  // not_recoverable when lost already.
  template <typename Function>
  Result<void> run(Function sync) {
    std::unique_lock lock(mutex_);
    const std::uint64_t ticket = ++asked_;
    idle_.wait(lock, [&] { return !busy_ || covered_ >= ticket; });
    if (lost_) return std::errc::state_not_recoverable;
    if (covered_ >= ticket) return {};
    const std::uint64_t covers = asked_;
    busy_ = true;
    lock.unlock();
    Result<void> result = sync();
    lock.lock();
    busy_ = false;
    covered_ = covers;
    lost_ = !result.ok();
    idle_.notify_all();
    return result;
  }

  // For a write that is durable by itself, which reports failures as the above does: true when
  // nothing is under way, and then end_alone() has to follow.
  bool begin_alone();
  void end_alone(bool lost);

 private:
  mutable std::mutex mutex_;
  std::condition_variable idle_;
  std::uint64_t asked_ = 0;
  std::uint64_t covered_ = 0;  // Every call up to this ticket has been done.
  bool busy_ = false;
  bool lost_ = false;
};

}  // namespace nbdkit
