// SPDX-License-Identifier: BSD-3-Clause
#include "async/task.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "support/test_loop.h"

static thread_local long allocations = 0;
[[gnu::noinline]] void* operator new(std::size_t n) {
  ++allocations;
  if (void* p = std::malloc(n)) return p;
  std::abort();
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }

namespace nbdkit {
namespace {

struct Note {  // Records the order in which locals go away.
  Note(std::vector<int>& l, int i) : log(l), id(i) {}
  ~Note() { log.push_back(id); }
  std::vector<int>& log;
  int id;
};

enum Case { kPasses = 0, kWaits = 1, kFails = 2 };

// With true everything waits once before it ends; with false it is ready at once.
class TaskTest : public testing::TestWithParam<bool> {
 public:
  Task<int> leaf(int how) {
    Note note(log, 0);
    if ((how & kWaits) != 0) co_await loop.sleep(Milliseconds(1), gate);
    if ((how & kFails) != 0) co_await fail(Error(std::errc::io_error, std::string(100, 'x')));
    co_return 1;
  }
  Task<int> middle(int how) {
    Note note(log, 1);
    int v = co_await leaf(how);
    co_return v + 1;
  }
  Task<int> handler(int how) {
    Note note(log, 2);
    Result<int> r = co_await middle(how).as_result();
    log.push_back(99);
    if (!r.ok()) {
      if (r.error().detail().size() != 100) co_await fail(std::errc::bad_message);
      co_return -1;
    }
    co_return r.value();
  }
  Task<int> together() {
    Task<int> first = leaf(waits());
    Task<int> second = leaf(waits());
    int a = co_await std::move(first);
    int b = co_await std::move(second);
    co_return a + b;
  }
  int waits() const { return GetParam() ? kWaits : kPasses; }

  TestLoop loop;
  Gate gate{loop};
  std::vector<int> log;
};

TEST_P(TaskTest, ValuePassesThroughEveryWaiter) {
  EXPECT_EQ(loop.run(handler(waits())).value(), 2);
  EXPECT_EQ(log, (std::vector<int>{0, 1, 99, 2}));
}

TEST_P(TaskTest, ErrorSkipsToTheHandlerAndEveryLocalGoesAwayOnce) {
  EXPECT_EQ(loop.run(handler(waits() | kFails)).value(), -1);
  EXPECT_EQ(std::count(log.begin(), log.end(), 0), 1);
  EXPECT_EQ(std::count(log.begin(), log.end(), 1), 1);
  EXPECT_EQ(log.back(), 2);
}

// What an Error ended has let go of everything (locks, for one) when the handler goes on.
TEST_P(TaskTest, LocalsAreGoneBeforeTheHandlerGoesOn) {
  EXPECT_EQ(loop.run(handler(waits() | kFails)).value(), -1);
  auto handled = std::find(log.begin(), log.end(), 99);
  EXPECT_EQ(std::count(log.begin(), handled, 0), 1);
  EXPECT_EQ(std::count(log.begin(), handled, 1), 1);
}

TEST_P(TaskTest, ErrorWithoutHandlerReachesTheRoot) {
  Result<int> result = loop.run(middle(waits() | kFails));
  EXPECT_EQ(result.error().code, std::errc::io_error);
}

TEST_P(TaskTest, FinishRunsItsFunctionWhenTheTaskIsGone) {
  bool finished = false;
  finish(middle(waits() | kFails), [&](Result<int>) {
    finished = true;
    EXPECT_EQ(log.size(), 2u);  // Both notes.
    loop.stop();
  });
  if (!finished) loop.Loop::run();
  EXPECT_TRUE(finished);
}

TEST_P(TaskTest, TasksRunAtTheSameTime) {
  EXPECT_EQ(loop.run(together()).value(), 2);
  EXPECT_EQ(loop.elapsed(), GetParam() ? Milliseconds(1) : Milliseconds(0));
}

INSTANTIATE_TEST_SUITE_P(ReadyAndLater, TaskTest, testing::Bool());

struct Device {
  virtual ~Device() = default;
  virtual Task<void> read() = 0;
};
struct Plugin final : Device {
  Task<void> read() override { return Result<void>(); }
};
struct PassThrough final : Device {
  explicit PassThrough(Device& n) : next(n) {}
  Task<void> read() override { return next.read(); }
  Device& next;
};

TEST(TaskCost, ForwardingAReadyResultAllocatesNothing) {
  Plugin plugin;
  PassThrough a(plugin), b(a), c(b);
  long before = allocations;
  bool ok = false;
  finish(c.read(), [&](Result<void> r) { ok = r.ok(); });
  EXPECT_TRUE(ok);
  EXPECT_EQ(allocations, before);
}

Task<void> many(Device& device, long times) {
  for (long i = 0; i < times; ++i) co_await device.read();
}
Task<void> turns(TestLoop& loop, Gate& gate, long times) {
  for (long i = 0; i < times; ++i) co_await loop.sleep(Milliseconds(1), gate);
}

TEST(TaskStack, AMillionTasksInALoopNeedNoStack) {
  Plugin plugin;
  bool ok = false;
  finish(many(plugin, 1'000'000), [&](Result<void> r) { ok = r.ok(); });
  EXPECT_TRUE(ok);
  TestLoop loop;
  Gate gate(loop);
  EXPECT_TRUE(loop.run(turns(loop, gate, 100'000)).ok());
}

Task<void> sleep_long(TestLoop& loop, Gate& gate) { co_await loop.sleep(Seconds(1), gate); }

TEST(TaskDeathTest, DestroyingAnUnfinishedTaskIsABug) {
  EXPECT_DEATH(
      {
        TestLoop loop;
        Gate gate(loop);
        { Task<void> task = sleep_long(loop, gate); }
      },
      "does not hold");
}

// The idioms that the house rules allow, on a class that notices a copy too many or a destructor
// that runs twice. g++ 12 gets many others wrong; should a compiler get one of these wrong, it must
// be seen here and not in a request.
class Counted {
 public:
  Counted(int value, int& alive) : alive_(&alive), value_(std::make_unique<int>(value)) {
    ++*alive_;
  }
  Counted(Counted&& other) noexcept : alive_(other.alive_), value_(std::move(other.value_)) {
    ++*alive_;
  }
  Counted& operator=(Counted&&) = default;
  ~Counted() { --*alive_; }
  int value() const { return value_ ? *value_ : -1; }

 private:
  int* alive_;
  std::unique_ptr<int> value_;
};

class TaskIdioms : public testing::TestWithParam<bool> {
 public:
  ~TaskIdioms() override { EXPECT_EQ(alive, 0); }

  Task<void> maybe_wait() {
    if (GetParam()) co_await loop.sleep(Milliseconds(1), gate);
  }
  Task<Counted> make(int value) {
    co_await maybe_wait();
    co_return Counted(value, alive);
  }
  Task<int> take(Counted counted) {
    co_await maybe_wait();
    co_return counted.value();
  }
  Task<bool> below(int& n, int limit) {
    co_await maybe_wait();
    co_return n++ < limit;
  }
  Task<int> forward(int value) {
    Counted counted = co_await make(value);
    co_return co_await take(std::move(counted));
  }
  Task<int> everything() {
    int sum = 0;
    Counted one = co_await make(1);
    sum += one.value();
    Counted two(2, alive);
    int taken = co_await take(std::move(two));
    sum += taken;
    int from_temporary = co_await take(Counted(4, alive));
    sum += from_temporary;
    Result<Counted> three = co_await make(8).as_result();
    if (three.ok()) sum += three.value().value();
    int n = 0;
    while (co_await below(n, 3)) sum += 16;
    if (co_await below(n, 100)) sum += 100;
    for (int i = 0; i < 2; ++i) {
      Counted each = co_await make(1000);
      if (i == 0) continue;
      sum += each.value();
    }
    co_await maybe_wait();
    (void)co_await maybe_wait().as_result();
    int forwarded = co_await forward(5000);
    co_return sum + forwarded;
  }

  int alive = 0;
  TestLoop loop;
  Gate gate{loop};
};

TEST_P(TaskIdioms, AreCompiledRight) {
  EXPECT_EQ(loop.run(everything()).value(), 1 + 2 + 4 + 8 + 3 * 16 + 100 + 1000 + 5000);
}

INSTANTIATE_TEST_SUITE_P(ReadyAndLater, TaskIdioms, testing::Bool());

}  // namespace
}  // namespace nbdkit
