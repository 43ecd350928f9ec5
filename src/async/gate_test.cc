// SPDX-License-Identifier: BSD-3-Clause
#include "async/gate.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>

#include "support/test_loop.h"

namespace nbdkit {
namespace {

struct GateTest : testing::Test {
  // Sleeps inside the gate and notes how that ended.
  Task<void> work(char name, Nanoseconds time) {
    Gate::Pass pass(gate);
    Result<void> slept = co_await loop.sleep(time, gate).as_result();
    log += name;
    log += slept.ok() ? '+' : '-';
    EXPECT_TRUE(slept.ok() || slept.error().code == std::errc::operation_canceled);
  }
  void start(char name, Nanoseconds time) {
    ASSERT_TRUE(gate.enter());
    finish(work(name, time), [](Result<void>) {});
  }

  TestLoop loop;
  Gate gate{loop};
  std::string log;
};

TEST_F(GateTest, DrainedWaitsForWhatIsInside) {
  ASSERT_TRUE(gate.enter());
  Task<void> drained = gate.drained();
  EXPECT_FALSE(drained.done());
  EXPECT_TRUE(gate.closed());
  EXPECT_FALSE(gate.enter());
  gate.leave();
  EXPECT_FALSE(drained.done());  // Who left may still stand in what the waiter frees.
  EXPECT_TRUE(loop.run(std::move(drained)).ok());
}

TEST_F(GateTest, DrainingAnEmptyGateEndsAtOnce) {
  Task<void> drained = gate.drained();
  EXPECT_TRUE(drained.done());
  Task<void> again = gate.drained();
  EXPECT_TRUE(again.done());
}

TEST_F(GateTest, ClosingEndsSleepsAtOnce) {
  start('a', Seconds(3600));
  start('b', Seconds(1));
  start('c', Seconds(7200));
  ASSERT_TRUE(loop.run(loop.sleep(Seconds(2), gate)).ok());
  EXPECT_EQ(log, "b+");
  EXPECT_TRUE(loop.run(gate.drained()).ok());
  EXPECT_EQ(log.size(), 6u);
  EXPECT_NE(log.find("a-"), std::string::npos);
  EXPECT_NE(log.find("c-"), std::string::npos);
  EXPECT_EQ(loop.elapsed(), Seconds(2));
}

TEST_F(GateTest, NobodySleepsOnAClosedGate) {
  gate.close();
  Task<void> sleep = loop.sleep(Seconds(1), gate);
  ASSERT_TRUE(sleep.done());
  EXPECT_EQ(sleep.take().error().code, std::errc::operation_canceled);
}

// A timer that is due in the same turn as the close must not resume its coroutine twice.
TEST_F(GateTest, ASleepThatIsOverWhenTheGateClosesEndsOnce) {
  class Closer final : public Timer {
   public:
    explicit Closer(Gate& gate) : gate_(gate) {}
    void expired() noexcept override { gate_.close(); }

   private:
    Gate& gate_;
  } closer(gate);
  start('a', Seconds(1));
  loop.timers().arm(closer, loop.now() + Seconds(1));
  start('b', Seconds(1));
  EXPECT_TRUE(loop.run(loop.sleep(Seconds(1), gate)).ok() || gate.closed());
  EXPECT_TRUE(loop.run(gate.drained()).ok());
  EXPECT_EQ(log.size(), 4u) << log;
}

TEST_F(GateTest, SleepsOfNoTimeLetOthersGoFirst) {
  struct Count final : Job {
    void run() noexcept override { ++count; }
    int count = 0;
  } posted;
  auto sleeper = [](GateTest& test) -> Task<void> {
    for (int i = 0; i < 3; ++i) co_await test.loop.sleep(Nanoseconds(0), test.gate);
  };
  Task<void> task = sleeper(*this);
  loop.post(posted);
  EXPECT_TRUE(loop.run(std::move(task)).ok());
  EXPECT_EQ(posted.count, 1);
}

TEST(GateDeathTest, LeavingTheGateWithSomebodyInsideIsABug) {
  EXPECT_DEATH(
      {
        TestLoop loop;
        Gate gate(loop);
        (void)gate.enter();
      },
      "does not hold");
}

}  // namespace
}  // namespace nbdkit
