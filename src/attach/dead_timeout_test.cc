// SPDX-License-Identifier: BSD-3-Clause
#include "attach/dead_timeout.h"

#include <gtest/gtest.h>

namespace nbdkit {
namespace {

struct DeadTimeoutTest : testing::Test {
  DeadTimeoutTest() {
    log.add("4,100,1,-;block nbd0: shutting down sockets\n");
    log.add("4,101,1,-;block nbd1: Receive control failed (result -32)\n");
    log.add("4,102,2,-;block nbd1: Dead connection, failed to find a fallback\n");
    log.add("4,103,3,-;block nbd1: shutting down sockets\n");
    log.add("4,104,4,-;block nbd2: Receive control failed (result -32)\n");
  }
  KernelLog log;
};

TEST_F(DeadTimeoutTest, HasExpiredWhenTheDriverGaveTheSocketsUp) {
  EXPECT_EQ(dead_timeout_of(log, 1, 101), DeadTimeout::expired);
  // What is known to have happened counts even if there may have been more.
  EXPECT_EQ(dead_timeout_of(log, 1, 7), DeadTimeout::expired);
}

TEST_F(DeadTimeoutTest, AnEarlierAttachmentDoesNotCount) {
  EXPECT_EQ(dead_timeout_of(log, 0, 101), DeadTimeout::waits);
  EXPECT_EQ(dead_timeout_of(log, 2, 101), DeadTimeout::waits);
}

TEST_F(DeadTimeoutTest, IsUnknownWhereTheLogDoesNotReach) {
  EXPECT_EQ(dead_timeout_of(log, 2, 7), DeadTimeout::unknown);
  EXPECT_EQ(dead_timeout_of(KernelLog(), 2, 7), DeadTimeout::unknown);
  EXPECT_EQ(dead_timeout_of(2, {}), DeadTimeout::unknown);
}

}  // namespace
}  // namespace nbdkit
