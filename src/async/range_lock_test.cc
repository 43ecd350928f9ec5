// SPDX-License-Identifier: BSD-3-Clause
#include "async/range_lock.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "async/loop_pool.h"
#include "support/test_loop.h"

namespace nbdkit {
namespace {

using Mode = RangeLock::Mode;

// Each user notes when it has the lock, holds it for a time and notes when it lets go.
struct RangeLockTest : testing::Test {
  ~RangeLockTest() override { (void)loop.run(gate.drained()); }

  Task<void> use(char name, std::uint64_t from, std::uint64_t to, Mode mode, Nanoseconds time) {
    RangeLock::Hold hold(lock, loop, from, to, mode);
    co_await hold;
    events += name;
    co_await loop.sleep(time, gate);
    events += static_cast<char>(name - 'a' + 'A');
  }
  void start(char name, std::uint64_t from, std::uint64_t to, Mode mode, int ms) {
    ++users;
    finish(use(name, from, to, mode, Milliseconds(ms)), [this](Result<void>) {
      if (--users == 0) loop.stop();
    });
  }
  std::string run() {
    loop.Loop::run();
    return events;
  }

  TestLoop loop;
  Gate gate{loop};
  RangeLock lock;
  std::string events;
  int users = 0;
};

TEST_F(RangeLockTest, OneExclusiveHolderOfAByteAtATime) {
  start('a', 0, 10, Mode::exclusive, 2);
  start('b', 9, 20, Mode::exclusive, 1);
  EXPECT_EQ(run(), "aAbB");
}

TEST_F(RangeLockTest, RangesThatOnlyTouchDoNotConflict) {
  start('a', 0, 10, Mode::exclusive, 2);
  start('b', 10, 20, Mode::exclusive, 1);
  EXPECT_EQ(run(), "abBA");
}

TEST_F(RangeLockTest, SharedHoldersDoNotConflict) {
  start('a', 0, 10, Mode::shared, 2);
  start('b', 5, 15, Mode::shared, 1);
  EXPECT_EQ(run(), "abBA");
}

TEST_F(RangeLockTest, SharedAndExclusiveHoldersConflictEitherWay) {
  start('a', 0, 10, Mode::shared, 3);
  start('b', 5, 15, Mode::exclusive, 2);
  start('c', 14, 15, Mode::shared, 1);
  EXPECT_EQ(run(), "aAbBcC");
}

// Otherwise a stream of aligned writes would keep an unaligned one out for ever.
TEST_F(RangeLockTest, NobodyOvertakesWhoConflictsWithAWaiter) {
  start('a', 0, 10, Mode::shared, 2);
  start('b', 0, 10, Mode::exclusive, 1);
  start('c', 0, 10, Mode::shared, 1);
  start('d', 20, 30, Mode::shared, 1);  // In nobody's way.
  EXPECT_EQ(run(), "adDAbBcC");
}

TEST_F(RangeLockTest, ReleasingLetsInEverybodyWhoFits) {
  start('a', 0, 100, Mode::exclusive, 1);
  start('b', 0, 10, Mode::exclusive, 3);
  start('c', 10, 20, Mode::exclusive, 2);
  start('d', 5, 15, Mode::shared, 1);
  EXPECT_EQ(run(), "aAbcCBdD");
}

TEST_F(RangeLockTest, AFreeLockIsTakenWithoutWaiting) {
  Task<void> task = use('a', 0, 1, Mode::exclusive, Nanoseconds(0));
  EXPECT_EQ(events, "a");
  EXPECT_TRUE(loop.run(std::move(task)).ok());
}

TEST_F(RangeLockTest, AHoldThatWasNeverAwaitedHoldsNothing) {
  { RangeLock::Hold hold(lock, loop, 0, 1, Mode::exclusive); }
  EXPECT_TRUE(loop.run(use('a', 0, 1, Mode::exclusive, Nanoseconds(0))).ok());
}

// Several threads count without atomics what only the lock protects.
class Counting final : public Job {
 public:
  static constexpr int kTimes = 2000;

  Counting(RangeLock& lock, Loop& loop, std::array<long, 4>& counters, unsigned seed,
           std::function<void()> done)
      : lock_(lock), loop_(loop), counters_(counters), seed_(seed), done_(std::move(done)) {}

  void run() noexcept override {
    finish(count(), [this](Result<void>) { done_(); });
  }

 private:
  Task<void> count() {
    for (int i = 0; i < kTimes; ++i) {
      seed_ = seed_ * 1103515245 + 12345;
      std::uint64_t from = (seed_ >> 16) % 4;
      std::uint64_t to = std::min<std::uint64_t>(from + 1 + (seed_ >> 20) % 2, 4);
      RangeLock::Hold hold(lock_, loop_, from, to, Mode::exclusive);
      co_await hold;
      for (std::uint64_t at = from; at < to; ++at) ++counters_[at];
      sum_ += static_cast<long>(to - from);
      co_await hop();
    }
  }
  // Gives the others a chance while the lock is held.
  Task<void> hop() {
    return loop_.blocking([] { return Result<void>(); });
  }

  RangeLock& lock_;
  Loop& loop_;
  std::array<long, 4>& counters_;
  unsigned seed_;
  std::function<void()> done_;

 public:
  long sum_ = 0;
};

TEST(RangeLockThreads, ExcludeEachOtherBetweenLoops) {
  WorkerPool workers;
  LoopPool loops(workers);
  RangeLock lock;
  std::array<long, 4> counters{};
  std::mutex mutex;
  std::condition_variable changed;
  int left = 6;
  std::vector<Loop*> used;
  std::vector<std::unique_ptr<Counting>> jobs;
  for (unsigned i = 0; i < 6; ++i) {
    used.push_back(loops.acquire().value());
    jobs.push_back(std::make_unique<Counting>(lock, *used.back(), counters, i + 1, [&] {
      std::lock_guard guard(mutex);
      --left;
      changed.notify_one();
    }));
  }
  for (unsigned i = 0; i < 6; ++i) used[i]->post(*jobs[i]);
  std::unique_lock guard(mutex);
  changed.wait(guard, [&] { return left == 0; });
  for (Loop* loop : used) loops.release(*loop);
  workers.stop();
  long expected = 0;
  for (auto& job : jobs) expected += job->sum_;
  EXPECT_EQ(counters[0] + counters[1] + counters[2] + counters[3], expected);
}

}  // namespace
}  // namespace nbdkit
