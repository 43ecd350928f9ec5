// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include "support/stack.h"

namespace nbdkit {
namespace {

TEST(Null, ReadsZeroesAndForgetsWhatIsWritten) {
  auto made = Stack::plugin("null", {{"size", "1M"}});
  ASSERT_TRUE(made.ok()) << made.error().message();
  Stack& stack = *made.value();
  ASSERT_TRUE(stack.open().ok());
  EXPECT_EQ(stack.device().properties().size, 1u << 20);
  EXPECT_TRUE(stack.write(0, "forgotten").ok());
  EXPECT_EQ(stack.read(0, 9).value(), std::string(9, '\0'));
  auto extents = stack.extents(0, 1 << 20);
  ASSERT_EQ(extents.value().size(), 1u);
  EXPECT_EQ(extents.value()[0].type, ExtentType::hole_and_zero);
}

TEST(Null, ABadSizeIsRefusedWithTheKeyAndTheValue) {
  auto made = Stack::plugin("null", {{"size", "12x"}});
  ASSERT_FALSE(made.ok());
  EXPECT_NE(made.error().message().find("size=12x"), std::string::npos) << made.error().message();
}

}  // namespace
}  // namespace nbdkit
