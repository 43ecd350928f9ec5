// SPDX-License-Identifier: BSD-3-Clause
#include "netlink/helper.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>

#include "support/real_loop.h"

namespace nbdkit {
namespace {

class HelperTest : public testing::Test {
 protected:
  ~HelperTest() override {
    if (!closed) close(Seconds(10));
  }
  bool close(Nanoseconds patience) {
    closed = true;
    return loop.run([&] { return helper.close(patience); }).value();
  }

  RealLoop loop;
  Helper helper{loop, "helper-test"};
  bool closed = false;
};

// A call that ends when it is told to. Shared with the call, which may outlive the test's frame.
struct Stuck {
  std::promise<void> begun;
  std::promise<void> go;
  std::atomic<bool> ended{false};

  Result<int> run() {
    begun.set_value();
    go.get_future().wait();
    ended = true;
    return 7;
  }
};

TEST_F(HelperTest, ACallEndsWithItsResult) {
  Result<int> result =
      loop.run([&] { return helper.call(Seconds(10), [] { return Result<int>(7); }); });
  EXPECT_EQ(result.value(), 7);
}

TEST_F(HelperTest, ACallEndsWithItsError) {
  Result<void> result = loop.run([&] {
    return helper.call(Seconds(10), []() -> Result<void> { return std::errc::io_error; });
  });
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, std::errc::io_error);
}

TEST_F(HelperTest, CallsAreCarriedOutInOrderAndOffTheLoop) {
  std::vector<int> order;
  pthread_t thread{};
  std::optional<Result<int>> first;
  finish(helper.call(Seconds(10),
                     [&] {
                       order.push_back(1);
                       return Result<int>(1);
                     }),
         [&](Result<int> ended) { first.emplace(std::move(ended)); });
  Result<int> second = loop.run([&] {
    return helper.call(Seconds(10), [&] {
      order.push_back(2);
      thread = ::pthread_self();
      return Result<int>(2);
    });
  });
  EXPECT_TRUE(second.ok());
  ASSERT_TRUE(first.has_value());
  EXPECT_EQ(order, (std::vector<int>{1, 2}));
  EXPECT_FALSE(::pthread_equal(thread, ::pthread_self()));
}

TEST_F(HelperTest, WhatTheCallOwnsIsGoneWhenItEnds) {
  auto owned = std::make_shared<int>(1);
  std::weak_ptr<int> seen = owned;
  Result<int> result = loop.run([&] {
    return helper.call(Seconds(10), [owned = std::move(owned)] { return Result<int>(*owned); });
  });
  EXPECT_TRUE(result.ok());
  EXPECT_TRUE(seen.expired());
}

TEST_F(HelperTest, ALateCallIsGivenUpAndItsResultGoesToTheOther) {
  auto stuck = std::make_shared<Stuck>();
  std::promise<int> late;
  auto call = [&] {
    return helper.call(
        Milliseconds(20), [stuck] { return stuck->run(); },
        [&](Result<int> result) { late.set_value(result.value()); });
  };
  Result<int> result = loop.run(call);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, std::errc::timed_out);
  EXPECT_FALSE(stuck->ended);
  stuck->go.set_value();
  EXPECT_EQ(late.get_future().get(), 7);
  EXPECT_TRUE(close(Seconds(10)));  // The thread may still stand in `late`.
}

TEST_F(HelperTest, ACallInTimeDoesNotGoToTheOther) {
  bool late = false;
  Result<int> result = loop.run([&] {
    return helper.call(
        Seconds(10), [] { return Result<int>(7); }, [&](Result<int>) { late = true; });
  });
  EXPECT_TRUE(result.ok());
  EXPECT_TRUE(close(Seconds(10)));
  EXPECT_FALSE(late);
}

TEST_F(HelperTest, ACallWhoseTimePassedInTheQueueIsNeverMade) {
  auto stuck = std::make_shared<Stuck>();
  bool made = false;
  std::optional<Result<int>> first;
  finish(helper.call(Seconds(10), [stuck] { return stuck->run(); }),
         [&](Result<int> ended) { first.emplace(std::move(ended)); });
  stuck->begun.get_future().wait();
  Result<int> second = loop.run([&] {
    return helper.call(Milliseconds(20), [&] {
      made = true;
      return Result<int>(2);
    });
  });
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, std::errc::timed_out);
  stuck->go.set_value();
  EXPECT_TRUE(close(Seconds(10)));
  EXPECT_TRUE(first.has_value() && first->ok());
  EXPECT_FALSE(made);
}

TEST_F(HelperTest, CloseLeavesAStuckThreadBehind) {
  auto stuck = std::make_shared<Stuck>();
  std::optional<Result<int>> first;
  std::optional<Result<int>> second;
  finish(helper.call(Seconds(3600), [stuck] { return stuck->run(); }),
         [&](Result<int> ended) { first.emplace(std::move(ended)); });
  finish(helper.call(Seconds(3600), [] { return Result<int>(2); }),
         [&](Result<int> ended) { second.emplace(std::move(ended)); });
  stuck->begun.get_future().wait();
  EXPECT_FALSE(close(Milliseconds(20)));
  ASSERT_TRUE(first && !first->ok());
  EXPECT_EQ(first->error().code, std::errc::operation_canceled);
  ASSERT_TRUE(second && !second->ok());
  stuck->go.set_value();
  while (stuck.use_count() > 1) ::sched_yield();  // The thread drops its call last.
}

TEST_F(HelperTest, NothingIsCalledAfterClose) {
  EXPECT_TRUE(close(Seconds(10)));
  Result<int> result =
      loop.run([&] { return helper.call(Seconds(10), [] { return Result<int>(7); }); });
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, std::errc::operation_canceled);
}

}  // namespace
}  // namespace nbdkit
