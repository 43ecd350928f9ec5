// SPDX-License-Identifier: BSD-3-Clause
#include "async/timers.h"

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <utility>
#include <vector>

namespace nbdkit {
namespace {

class Alarm final : public Timer {
 public:
  explicit Alarm(std::function<void()> action) : action_(std::move(action)) {}
  void expired() noexcept override { action_(); }

 private:
  std::function<void()> action_;
};

struct TimersTest : testing::Test {
  std::unique_ptr<Alarm> note(int number) {
    return std::make_unique<Alarm>([this, number] { order.push_back(number); });
  }
  Timers timers;
  std::vector<int> order;
};

TEST_F(TimersTest, ExpireInTheOrderOfTheirTimes) {
  std::vector<std::unique_ptr<Alarm>> alarms;
  for (int i = 0; i < 200; ++i) {
    alarms.push_back(note(i * 37 % 200));
    timers.arm(*alarms.back(), Nanoseconds(i * 37 % 200));
  }
  EXPECT_EQ(timers.next(), Nanoseconds(0));
  timers.run_expired(Nanoseconds(99));
  ASSERT_EQ(order.size(), 100u);
  for (int i = 0; i < 100; ++i) EXPECT_EQ(order[static_cast<std::size_t>(i)], i);
  EXPECT_EQ(timers.next(), Nanoseconds(100));
}

TEST_F(TimersTest, ADisarmedOneNeverExpires) {
  auto a = note(1), b = note(2), c = note(3);
  timers.arm(*a, Nanoseconds(1));
  timers.arm(*b, Nanoseconds(2));
  timers.arm(*c, Nanoseconds(3));
  timers.disarm(*b);
  timers.disarm(*b);
  EXPECT_FALSE(b->armed());
  timers.run_expired(Nanoseconds(10));
  EXPECT_EQ(order, (std::vector<int>{1, 3}));
  EXPECT_EQ(timers.next(), Timers::kNever);
}

TEST_F(TimersTest, ArmingAgainMovesIt) {
  auto a = note(1), b = note(2);
  timers.arm(*a, Nanoseconds(1));
  timers.arm(*b, Nanoseconds(2));
  timers.arm(*a, Nanoseconds(3));
  timers.run_expired(Nanoseconds(10));
  EXPECT_EQ(order, (std::vector<int>{2, 1}));
}

TEST_F(TimersTest, OneThatGoesAwayLeavesTheHeap) {
  auto a = note(1), b = note(2);
  timers.arm(*a, Nanoseconds(1));
  timers.arm(*b, Nanoseconds(2));
  a.reset();
  EXPECT_EQ(timers.next(), Nanoseconds(2));
  timers.run_expired(Nanoseconds(10));
  EXPECT_EQ(order, (std::vector<int>{2}));
}

TEST_F(TimersTest, OneThatExpiresMayDisarmAndEndOthers) {
  auto victim = note(2), other = note(3);
  Alarm killer([&] {
    timers.disarm(*other);
    victim.reset();
  });
  timers.arm(killer, Nanoseconds(1));
  timers.arm(*victim, Nanoseconds(1));
  timers.arm(*other, Nanoseconds(1));
  timers.run_expired(Nanoseconds(5));
  timers.run_expired(Nanoseconds(5));
  for (int number : order) EXPECT_NE(number, 1);
  EXPECT_EQ(timers.next(), Timers::kNever);
}

// Otherwise a coroutine that sleeps for no time in a loop would keep the loop from its sockets.
TEST_F(TimersTest, OneThatIsArmedAgainWhileItExpiresWaitsForTheNextTurn) {
  int count = 0;
  Alarm* self = nullptr;
  Alarm alarm([&] {
    ++count;
    timers.arm(*self, Nanoseconds(0));
  });
  self = &alarm;
  timers.arm(alarm, Nanoseconds(5));
  timers.run_expired(Nanoseconds(5));
  EXPECT_EQ(count, 1);
  EXPECT_TRUE(alarm.armed());
  timers.run_expired(Nanoseconds(6));
  EXPECT_EQ(count, 2);
}

}  // namespace
}  // namespace nbdkit
