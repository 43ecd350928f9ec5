// SPDX-License-Identifier: BSD-3-Clause
#include "async/worker_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

namespace nbdkit {
namespace {

// Jobs that all wait inside until they are let go.
class Crowd {
 public:
  void submit(WorkerPool& pool, std::size_t count) {
    JobQueue jobs;
    for (std::size_t i = 0; i < count; ++i) jobs.push(jobs_.emplace_back(*this));
    pool.submit(jobs);
  }
  void wait_inside(std::size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return inside_ >= count; });
  }
  void let_go() {
    std::lock_guard guard(mutex_);
    open_ = true;
    changed_.notify_all();
  }
  void wait_done(std::size_t count) {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return done_ >= count; });
  }
  std::size_t done() {
    std::lock_guard guard(mutex_);
    return done_;
  }
  std::size_t most_inside() {
    std::lock_guard guard(mutex_);
    return most_inside_;
  }

 private:
  class Member final : public Job {
   public:
    explicit Member(Crowd& crowd) : crowd_(crowd) {}
    void run() noexcept override { crowd_.visit(); }

   private:
    Crowd& crowd_;
  };

  void visit() {
    std::unique_lock lock(mutex_);
    most_inside_ = std::max(most_inside_, ++inside_);
    changed_.notify_all();
    changed_.wait(lock, [&] { return open_; });
    --inside_;
    ++done_;
    changed_.notify_all();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  bool open_ = false;
  std::size_t inside_ = 0, most_inside_ = 0, done_ = 0;
  std::deque<Member> jobs_;
};

TEST(WorkerPool, HasNoThreadsUntilThereIsWork) {
  WorkerPool pool;
  EXPECT_EQ(pool.threads(), 0u);
}

TEST(WorkerPool, EveryJobGetsAThreadUpToTheLimit) {
  Crowd crowd;
  WorkerPool pool({.threads_max = 4, .idle_max = Seconds(10)});
  crowd.submit(pool, 3);
  crowd.wait_inside(3);
  EXPECT_EQ(pool.threads(), 3u);
  crowd.submit(pool, 10);
  crowd.wait_inside(4);
  EXPECT_EQ(pool.threads(), 4u);
  crowd.let_go();
  crowd.wait_done(13);
  EXPECT_EQ(crowd.most_inside(), 4u);
}

// Jobs of several turns may come before the first new thread has begun.
TEST(WorkerPool, MakesNoMoreThreadsThanJobs) {
  Crowd crowd;
  WorkerPool pool;
  for (int i = 0; i < 8; ++i) crowd.submit(pool, 1);
  EXPECT_LE(pool.threads(), 8u);
  crowd.let_go();
  crowd.wait_done(8);
}

TEST(WorkerPool, AnIdleThreadTakesTheNextJob) {
  WorkerPool pool;
  for (int i = 0; i < 20; ++i) {
    Crowd crowd;
    crowd.let_go();
    crowd.submit(pool, 1);
    crowd.wait_done(1);
  }
  // Not 1: the next job may come before the thread has said that it is idle.
  EXPECT_LE(pool.threads(), 3u);
}

TEST(WorkerPool, IdleThreadsGo) {
  Crowd crowd;
  WorkerPool pool({.threads_max = 8, .idle_max = Nanoseconds(1)});
  crowd.let_go();
  crowd.submit(pool, 8);
  crowd.wait_done(8);
  while (pool.threads() > 0) std::this_thread::yield();
  Crowd again;  // And new ones come.
  again.let_go();
  again.submit(pool, 1);
  again.wait_done(1);
}

TEST(WorkerPool, AFixedNumberIsThereFromTheStartAndStays) {
  Crowd crowd;
  WorkerPool pool({.threads_max = 8, .idle_max = Nanoseconds(1)});
  ASSERT_TRUE(pool.fix(3).ok());
  EXPECT_EQ(pool.threads(), 3u);
  crowd.submit(pool, 20);
  crowd.wait_inside(3);
  EXPECT_EQ(pool.threads(), 3u);
  crowd.let_go();
  crowd.wait_done(20);
  EXPECT_EQ(crowd.most_inside(), 3u);
  EXPECT_EQ(pool.threads(), 3u);
}

TEST(WorkerPool, ItsEndWaitsForEveryJob) {
  Crowd crowd;
  {
    WorkerPool pool({.threads_max = 2, .idle_max = Seconds(10)});
    crowd.submit(pool, 50);
    crowd.wait_inside(2);
    crowd.let_go();
  }
  EXPECT_EQ(crowd.done(), 50u);
}

}  // namespace
}  // namespace nbdkit
