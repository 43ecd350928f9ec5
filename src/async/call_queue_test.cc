// SPDX-License-Identifier: BSD-3-Clause
#include "async/call_queue.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <future>

#include "support/real_loop.h"

namespace nbdkit {
namespace {

TEST(CallQueue, ACallThatNobodyWaitsForRunsHere) {
  RealLoop loop;
  CallQueue queue(1);
  auto where = []() -> Result<int> { return ::gettid(); };
  Result<int> elsewhere = loop.run([&] { return queue.run(loop, where); });
  EXPECT_NE(elsewhere.value(), ::gettid());
  std::optional<Result<int>> here = queue.run_here(loop, where);
  ASSERT_TRUE(here.has_value());
  EXPECT_EQ(here->value(), ::gettid());
}

TEST(CallQueue, AFullQueueIsLeftAlone) {
  RealLoop loop;
  CallQueue queue(1);
  std::promise<void> go;
  auto slow = [told = go.get_future().share()]() -> Result<void> {
    told.wait();
    return {};
  };
  bool called = false;
  auto quick = [&called]() -> Result<void> {
    called = true;
    return {};
  };
  Result<void> done = loop.run([&]() -> Task<void> {
    Task<void> first = queue.run(loop, slow);
    EXPECT_FALSE(queue.run_here(loop, quick).has_value());
    go.set_value();
    return first;
  });
  EXPECT_TRUE(done.ok());
  EXPECT_FALSE(called);
  EXPECT_TRUE(queue.run_here(loop, quick).has_value());
}

}  // namespace
}  // namespace nbdkit
