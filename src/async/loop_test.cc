// SPDX-License-Identifier: BSD-3-Clause
#include "async/loop.h"

#include <gtest/gtest.h>

#include "support/test_loop.h"

namespace nbdkit {
namespace {

TEST(Loop, ACallThatBeganBeforeTheLoopRanReachesAWorker) {
  TestLoop loop;
  Result<int> result = loop.run(loop.blocking([] { return Result<int>(7); }));
  EXPECT_EQ(result.value(), 7);
}

}  // namespace
}  // namespace nbdkit
