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

TEST(Null, AcceptsEveryRequest) {
  auto stack = Stack::plugin("null", {{"size", "1M"}}).value();
  ASSERT_TRUE(stack->open().ok());
  EXPECT_TRUE(stack->write(0, "x", RequestFlags::fua).ok());
  EXPECT_TRUE(stack->flush().ok());
  EXPECT_TRUE(stack->trim(0, 1 << 20).ok());
  EXPECT_TRUE(stack->zero(0, 1 << 20, RequestFlags::fast_zero).ok());
  EXPECT_TRUE(stack->loop().run(stack->device().cache(Request(Offset{0}, 4096))).ok());
}

TEST(Null, TheLargestDiskIsOneHoleToItsEnd) {
  auto stack = Stack::plugin("null", {{"size", "9223372036854775807"}}).value();
  ASSERT_TRUE(stack->open().ok());
  std::uint64_t size = stack->device().properties().size;
  EXPECT_EQ(size, 9223372036854775807u);
  EXPECT_EQ(stack->read(size - 3, 3).value(), std::string(3, '\0'));
  auto extents = stack->extents(0, size).value();
  ASSERT_EQ(extents.size(), 1u);
  EXPECT_EQ(extents[0].length, size);
}

TEST(Null, WithoutASizeTheDiskIsEmpty) {
  auto stack = Stack::plugin("null", {}).value();
  ASSERT_TRUE(stack->open().ok());
  EXPECT_EQ(stack->device().properties().size, 0u);
}

TEST(Null, ABadSizeIsRefusedWithTheKeyAndTheValue) {
  auto made = Stack::plugin("null", {{"size", "12x"}});
  ASSERT_FALSE(made.ok());
  EXPECT_NE(made.error().message().find("size=12x"), std::string::npos) << made.error().message();
}

}  // namespace
}  // namespace nbdkit
