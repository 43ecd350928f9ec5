// SPDX-License-Identifier: BSD-3-Clause
#include "async/fd_watch.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>

#include "support/test_loop.h"

namespace nbdkit {
namespace {

UniqueFd readable() { return UniqueFd(::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK)); }

struct FdWatchTest : testing::Test {
  TestLoop loop;
};

TEST_F(FdWatchTest, TheFunctionIsCalledAsLongAsTheDescriptorIsReady) {
  UniqueFd fd = readable();
  int calls = 0;
  FdWatch watch(loop, fd.get(), [&] {
    if (++calls == 3) loop.stop();
  });
  ASSERT_TRUE(watch.start(EPOLLIN).ok());
  loop.Loop::run();
  EXPECT_EQ(calls, 3);
}

TEST_F(FdWatchTest, ItMayBeStoppedFromItsFunctionAndStartedAgain) {
  UniqueFd fd = readable();
  int calls = 0;
  FdWatch watch(loop, fd.get(), [&] {
    ++calls;
    watch.stop();
    loop.stop();
  });
  for (int round = 1; round <= 2; ++round) {
    ASSERT_TRUE(watch.start(EPOLLIN).ok());
    loop.Loop::run();
    EXPECT_EQ(calls, round);
  }
}

TEST_F(FdWatchTest, AHangUpIsToldWithoutBeingAskedFor) {
  std::array<int, 2> ends;
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  UniqueFd in(ends[0]);
  UniqueFd out(ends[1]);
  bool told = false;
  FdWatch watch(loop, out.get(), [&] {
    told = true;
    loop.stop();
  });
  ASSERT_TRUE(watch.start(0).ok());
  in.reset();
  loop.Loop::run();
  EXPECT_TRUE(told);
}

TEST_F(FdWatchTest, TheDescriptorIsFreeForAnotherOneAfterwards) {
  UniqueFd fd = readable();
  {
    FdWatch first(loop, fd.get(), [] { FAIL() << "it is gone"; });
    ASSERT_TRUE(first.start(EPOLLIN).ok());
  }
  FdWatch second(loop, fd.get(), [&] { loop.stop(); });
  ASSERT_TRUE(second.start(EPOLLIN).ok());
  loop.Loop::run();
}

TEST_F(FdWatchTest, WhatCannotBeWatchedIsAnError) {
  FdWatch watch(loop, -1, [] {});
  EXPECT_FALSE(watch.start(EPOLLIN).ok());
}

}  // namespace
}  // namespace nbdkit
