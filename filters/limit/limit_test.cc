// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include "support/stack.h"

namespace nbdkit {
namespace {

struct LimitTest : testing::Test {
  void make(Parameters parameters) {
    auto made = Stack::filter("limit", parameters, disk);
    ASSERT_TRUE(made.ok()) << made.error().message();
    stack = std::move(made).value();
  }
  ScriptedLayer disk{4096};
  std::unique_ptr<Stack> stack;
};

TEST_F(LimitTest, OneClientUnlessItIsToldOtherwise) {
  make({});
  ASSERT_TRUE(stack->open().ok());
  ASSERT_TRUE(stack->write(512, "hello").ok());
  EXPECT_EQ(stack->read(512, 5).value(), "hello");
  Result<Chain*> second = stack->open();
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().message(), "limit: 1 clients are served already (limit=1)");
}

TEST_F(LimitTest, WhoHasToLeaveIsToldBeforeTheHandshake) {
  make({{"limit", "2"}});
  ASSERT_TRUE(stack->open().ok());
  EXPECT_TRUE(stack->loop().run(stack->layer().preconnect(stack->context())).ok());
  ASSERT_TRUE(stack->open().ok());
  EXPECT_FALSE(stack->loop().run(stack->layer().preconnect(stack->context())).ok());
}

TEST_F(LimitTest, APlaceIsFreeWhenItsClientHasLeft) {
  make({});
  for (int i = 0; i < 3; ++i) {
    OtherConnection client(*stack);
    ASSERT_FALSE(stack->open().ok());
  }
  EXPECT_TRUE(stack->open().ok());
}

TEST_F(LimitTest, ZeroIsNoLimit) {
  make({{"limit", "0"}});
  for (int i = 0; i < 100; ++i) ASSERT_TRUE(stack->open().ok());
}

TEST_F(LimitTest, AnOpenThatFailsTakesNoPlace) {
  make({});
  for (int i = 0; i < 3; ++i) {
    disk.open_error = std::errc::io_error;
    EXPECT_EQ(stack->open().error().code, std::errc::io_error);
  }
  disk.open_error = {};
  EXPECT_TRUE(stack->open().ok());
}

TEST_F(LimitTest, BadNumbersAreRefused) {
  EXPECT_FALSE(Stack::filter("limit", {{"limit", "-1"}}, disk).ok());
  EXPECT_FALSE(Stack::filter("limit", {{"limit", "x"}}, disk).ok());
}

}  // namespace
}  // namespace nbdkit
