// SPDX-License-Identifier: BSD-3-Clause
#include "async/loop.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "async/post.h"
#include "support/test_loop.h"

namespace nbdkit {
namespace {

// Runs a function each time.
class Action final : public Job, public Watcher {
 public:
  explicit Action(std::function<void()> action) : action_(std::move(action)) {}
  void run() noexcept override { action_(); }
  void ready(std::uint32_t) noexcept override { action_(); }

 private:
  std::function<void()> action_;
};

UniqueFd readable() { return UniqueFd(::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK)); }

struct LoopTest : testing::Test {
  Action note(std::string word) {
    return Action([this, word] { order += word + " "; });
  }
  TestLoop loop;
  Action stop{[this] { loop.stop(); }};
  std::string order;
};

TEST_F(LoopTest, ACallThatBeganBeforeTheLoopRanReachesAWorker) {
  Result<int> result = loop.run(loop.blocking([] { return Result<int>(7); }));
  EXPECT_EQ(result.value(), 7);
}

TEST_F(LoopTest, ABlockingCallRunsOnAnotherThreadAndEndsOnThisOne) {
  std::thread::id here = std::this_thread::get_id();
  std::thread::id there =
      loop.run(loop.blocking([] { return Result<std::thread::id>(std::this_thread::get_id()); }))
          .value();
  EXPECT_NE(here, there);
  Result<void> failed = loop.run(
      loop.blocking([] { return Result<void>(Error(std::errc::io_error, "by the worker")); }));
  EXPECT_EQ(failed.error().detail(), "by the worker");
}

TEST_F(LoopTest, ATurnHasAnOrder) {
  Action deferred = note("deferred"), end = note("end"), late = note("late");
  UniqueFd fd = readable();
  Action watcher([&] {
    order += "watcher ";
    loop.at_turn_end(end);
    loop.defer(deferred);
    loop.unwatch(fd.get(), watcher);
  });
  Action posted([&] { order += "posted "; });
  Action last([&] {
    order += "last ";
    loop.defer(late);  // Still in this turn.
    loop.stop();
  });
  ASSERT_TRUE(loop.watch(fd.get(), EPOLLIN, watcher).ok());
  loop.post(posted);
  loop.at_next_turn(last);
  loop.Loop::run();
  EXPECT_EQ(order, "watcher posted last deferred late end ");
}

TEST_F(LoopTest, DeferredJobsComeBeforeTheTurnsEndEvenWhenThatDefersMore) {
  Action a = note("a"), b = note("b"), c = note("c");
  Action first_end([&] {
    order += "end1 ";
    loop.defer(c);
  });
  Action second_end = note("end2");
  loop.at_turn_end(first_end);
  loop.at_turn_end(second_end);
  loop.defer(a);
  loop.defer(b);
  loop.stop();
  loop.Loop::run();
  EXPECT_EQ(order, "a b end1 c end2 ");
}

TEST_F(LoopTest, StopIsNotForgottenAndEndsOneRun) {
  Action never = note("never");
  loop.stop();
  loop.Loop::run();
  Action once = note("once");
  loop.post(once);
  loop.post(stop);
  loop.Loop::run();
  EXPECT_EQ(order, "once ");
}

TEST_F(LoopTest, AWatcherIsToldAsLongAsThereIsSomething) {
  UniqueFd fd = readable();
  int times = 0;
  Action watcher([&] {
    if (++times == 3) loop.stop();
  });
  ASSERT_TRUE(loop.watch(fd.get(), EPOLLIN, watcher).ok());
  loop.Loop::run();
  EXPECT_EQ(times, 3);
  loop.unwatch(fd.get(), watcher);
}

// Both are ready in one turn; whoever is told first takes the other one out.
TEST_F(LoopTest, NobodyIsToldAfterItWasUnwatched) {
  UniqueFd one = readable(), two = readable();
  int told = 0;
  std::array<Action*, 2> both{};
  auto take_out = [&] {
    ++told;
    loop.unwatch(one.get(), *both[0]);
    loop.unwatch(two.get(), *both[1]);
    loop.stop();
  };
  Action first(take_out), second(take_out);
  both = {&first, &second};
  ASSERT_TRUE(loop.watch(one.get(), EPOLLIN, first).ok());
  ASSERT_TRUE(loop.watch(two.get(), EPOLLIN, second).ok());
  loop.Loop::run();
  EXPECT_EQ(told, 1);
}

// A timer that is due in the turn in which the descriptor is ready.
TEST_F(LoopTest, NobodyIsToldAfterATimerUnwatchedIt) {
  class Remover final : public Timer {
   public:
    explicit Remover(std::function<void()> action) : action_(std::move(action)) {}
    virtual ~Remover() = default;
    void expired() noexcept override { action_(); }

   private:
    std::function<void()> action_;
  };
  UniqueFd fd = readable();
  bool told = false;
  Action watcher([&] { told = true; });
  Remover remover([&] {
    loop.unwatch(fd.get(), watcher);
    loop.stop();
  });
  ASSERT_TRUE(loop.watch(fd.get(), EPOLLIN, watcher).ok());
  loop.timers().arm(remover, loop.now());
  loop.Loop::run();
  EXPECT_FALSE(told);
}

TEST_F(LoopTest, AWatchCanBeChangedWhileItIsTold) {
  std::array<int, 2> ends;
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
  UniqueFd here(ends[0]), there(ends[1]);
  ASSERT_EQ(::write(there.get(), "x", 1), 1);
  class Switcher final : public Watcher {
   public:
    Switcher(Loop& loop, int fd) : loop_(loop), fd_(fd) {}
    void ready(std::uint32_t events) noexcept override {
      seen_.push_back(events);
      if (seen_.size() == 1) loop_.change_watch(fd_, EPOLLOUT, *this);
      if (seen_.size() == 2) loop_.stop();
    }
    Loop& loop_;
    int fd_;
    std::vector<std::uint32_t> seen_;
  } watcher(loop, here.get());
  ASSERT_TRUE(loop.watch(here.get(), EPOLLIN, watcher).ok());
  loop.Loop::run();
  EXPECT_EQ(watcher.seen_, (std::vector<std::uint32_t>{EPOLLIN, EPOLLOUT}));
  loop.unwatch(here.get(), watcher);
}

TEST_F(LoopTest, WhatCannotBeWatchedIsAnError) {
  Action watcher([] {});
  EXPECT_EQ(loop.watch(-1, EPOLLIN, watcher).error().code, std::errc::bad_file_descriptor);
}

TEST_F(LoopTest, PostedJobsKeepTheirOrder) {
  std::vector<int> seen;
  for (int i = 0; i < 1000; ++i) post(loop, [&seen, i] { seen.push_back(i); });
  loop.post(stop);
  loop.Loop::run();
  ASSERT_EQ(seen.size(), 1000u);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(seen[static_cast<std::size_t>(i)], i);
}

TEST_F(LoopTest, ScratchHasRoomInFrontOfIt) {
  std::span<std::byte> scratch = loop.scratch();
  EXPECT_EQ(scratch.size(), Loop::kScratchSize);
  for (std::byte* at = scratch.data() - Loop::kScratchHeadroom; at < scratch.data() + 1; ++at) {
    *at = std::byte{1};
  }
  EXPECT_EQ(loop.scratch().data(), scratch.data());
}

// Real time from here on.

TEST(LoopTime, ASleepTakesAtLeastItsTime) {
  WorkerPool workers;
  Loop loop(workers);
  Gate gate(loop);
  Nanoseconds before = loop.now();
  bool ok = false;
  finish(loop.sleep(Nanoseconds(300'000), gate), [&](Result<void> result) {
    ok = result.ok();
    loop.stop();
  });
  loop.run();
  EXPECT_TRUE(ok);
  EXPECT_GE(loop.now() - before, Nanoseconds(300'000));
  workers.stop();
}

// Two loops hand one job to and fro; a wake-up that is lost hangs the test.
class Ball final : public Job {
 public:
  static constexpr int kTimes = 20'000;
  Ball(Loop& a, Loop& b) : loops_{&a, &b} {}
  void run() noexcept override {
    if (++count_ > kTimes) {
      loops_[0]->stop();
      loops_[1]->stop();
      return;
    }
    loops_[static_cast<std::size_t>(count_ % 2)]->post(*this);
  }
  int count() const { return count_; }

 private:
  std::array<Loop*, 2> loops_;
  int count_ = 0;
};

TEST(LoopThreads, AJobThatGoesToAndFroNeverGetsLost) {
  WorkerPool workers;
  Loop here(workers), there(workers);
  Ball ball(here, there);
  std::thread thread([&] { there.run(); });
  here.post(ball);
  here.run();
  thread.join();
  EXPECT_EQ(ball.count(), Ball::kTimes + 1);
  workers.stop();
}

TEST(LoopThreads, ManyThreadsPostToOneLoop) {
  constexpr int kThreads = 4, kEach = 5'000;
  WorkerPool workers;
  Loop loop(workers);
  int seen = 0;  // The loop's: no lock.
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < kEach; ++n) {
        post(loop, [&] {
          if (++seen == kThreads * kEach) loop.stop();
        });
        if (n % 64 == 0) std::this_thread::yield();  // Lets the loop fall asleep now and then.
      }
    });
  }
  loop.run();
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(seen, kThreads * kEach);
  workers.stop();
}

TEST(LoopThreads, StopFromAnotherThreadWakesTheLoop) {
  for (int i = 0; i < 200; ++i) {
    WorkerPool workers;
    Loop loop(workers);
    std::thread thread([&] { loop.run(); });
    loop.stop();
    thread.join();
    workers.stop();
  }
}

}  // namespace
}  // namespace nbdkit
