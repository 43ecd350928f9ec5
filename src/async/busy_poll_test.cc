// SPDX-License-Identifier: BSD-3-Clause
#include "async/busy_poll.h"

#include <gtest/gtest.h>

namespace nbdkit {
namespace {

struct BusyPollTest : testing::Test {
  BusyPollTest() { interruptions = 0; }

  // Waits until the next look.
  static unsigned waits_before_look(BusyPoll& poll, bool found) {
    unsigned waits = 0;
    while (!poll.begin()) ++waits;
    poll.end(found);
    return waits;
  }

  static constexpr unsigned kLooksPerInterruption =
      BusyPoll::kLooksPerCheck / static_cast<unsigned>(BusyPoll::kInterruptionsMax) + 1;
  static inline long interruptions = 0;
  const BusyPoll::Machine machine{1, [] { return interruptions; }};
  BusyPoll poll{machine};
};

TEST_F(BusyPollTest, LooksEachTimeWhileItFindsSomething) {
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(waits_before_look(poll, true), 0U);
}

TEST_F(BusyPollTest, LooksSeldomWhenItIsInVain) {
  unsigned waits = 0;
  for (int i = 0; i < 20; ++i) {
    unsigned next = waits_before_look(poll, false);
    EXPECT_TRUE(next == BusyPoll::kSkippedMax || next == (1U << i) - 1) << i << ": " << next;
    waits = next;
  }
  EXPECT_EQ(waits, BusyPoll::kSkippedMax);
}

TEST_F(BusyPollTest, OneFindIsEnoughToGoOn) {
  for (int i = 0; i < 20; ++i) waits_before_look(poll, false);
  EXPECT_EQ(waits_before_look(poll, true), BusyPoll::kSkippedMax);
  EXPECT_EQ(waits_before_look(poll, true), 0U);
}

TEST_F(BusyPollTest, GivesTheProcessorToOthersForAWhile) {
  waits_before_look(poll, true);
  interruptions = BusyPoll::kInterruptionsMax + 1;
  unsigned waits = 0;
  for (unsigned i = 0; i < 2 * BusyPoll::kLooksPerCheck; ++i)
    waits += waits_before_look(poll, true);
  EXPECT_EQ(waits, BusyPoll::kYieldedWaits + 1);
}

TEST_F(BusyPollTest, AFewInterruptionsAreOrdinary) {
  for (unsigned i = 0; i < 10 * BusyPoll::kLooksPerCheck; ++i) {
    if (i % kLooksPerInterruption == 0) ++interruptions;
    EXPECT_EQ(waits_before_look(poll, true), 0U);
  }
}

// Or a loop that has given way once would do so for ever.
TEST_F(BusyPollTest, InterruptionsWhileItDoesNotLookDoNotCount) {
  waits_before_look(poll, true);
  interruptions = BusyPoll::kInterruptionsMax + 1;
  unsigned waits = 0;
  while (waits == 0) waits = waits_before_look(poll, true);
  interruptions += 1000;
  for (unsigned i = 0; i < BusyPoll::kLooksPerCheck; ++i) waits_before_look(poll, true);
  EXPECT_EQ(waits_before_look(poll, true), 0U);
}

TEST_F(BusyPollTest, OnlySoManyLookAtTheSameTime) {
  BusyPoll other(machine);
  ASSERT_TRUE(poll.begin());
  EXPECT_FALSE(other.begin());
  poll.end(true);
  EXPECT_TRUE(other.begin());
  other.end(true);
}

TEST_F(BusyPollTest, NeverLooksWhereNobodyMay) {
  BusyPoll never({0, machine.interruptions});
  EXPECT_FALSE(never.begin());
}

}  // namespace
}  // namespace nbdkit
