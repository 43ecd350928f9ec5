// SPDX-License-Identifier: BSD-3-Clause
#include "attach/restart_policy.h"

#include <gtest/gtest.h>

namespace nbdkit {
namespace {

TEST(RestartPolicy, TheFirstStartIsAtOnceAndTheDelayDoubles) {
  RestartPolicy policy;
  EXPECT_EQ(policy.next_delay(Seconds(100)), Nanoseconds(0));
  EXPECT_EQ(policy.next_delay(Seconds(100)), Milliseconds(250));
  EXPECT_EQ(policy.next_delay(Seconds(101)), Milliseconds(500));
  EXPECT_EQ(policy.next_delay(Seconds(102)), Seconds(1));
  EXPECT_EQ(policy.next_delay(Seconds(103)), Seconds(2));
  EXPECT_EQ(policy.next_delay(Seconds(105)), std::nullopt);
}

TEST(RestartPolicy, AStartIsForgottenAfterAMinute) {
  RestartPolicy policy;
  for (int i = 0; i < 5; ++i) policy.next_delay(Seconds(100 + i));
  EXPECT_EQ(policy.next_delay(Seconds(160)), std::nullopt);
  EXPECT_NE(policy.next_delay(Seconds(161)), std::nullopt);
  EXPECT_EQ(policy.next_delay(Seconds(161)), std::nullopt);
}

TEST(RestartPolicy, AServerThatHasServedEndsTheRow) {
  RestartPolicy policy;
  for (int i = 0; i < 5; ++i) policy.next_delay(Seconds(100));
  policy.has_served(Milliseconds(1'999));
  EXPECT_EQ(policy.next_delay(Seconds(100)), std::nullopt);
  policy.has_served(Seconds(2));
  EXPECT_EQ(policy.next_delay(Seconds(100)), Nanoseconds(0));
}

}  // namespace
}  // namespace nbdkit
