// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include "support/stack.h"

namespace nbdkit {
namespace {

// Byte by byte, the slow and obvious way.
std::string expected(std::uint64_t offset, std::size_t length) {
  std::string bytes;
  for (std::uint64_t at = offset; at < offset + length; ++at) {
    bytes += static_cast<char>((at & ~std::uint64_t{7}) >> (8 * (7 - at % 8)));
  }
  return bytes;
}

std::unique_ptr<Stack> pattern(std::string_view size) {
  auto made = Stack::plugin("pattern", {{"size", size}});
  EXPECT_TRUE(made.ok()) << made.error().message();
  std::unique_ptr<Stack> stack = std::move(made).value();
  EXPECT_TRUE(stack->open().ok());
  return stack;
}

TEST(Pattern, EveryEightBytesHoldTheirOffset) {
  auto stack = pattern("1M");
  EXPECT_EQ(stack->read(0x28, 8).value(), std::string("\0\0\0\0\0\0\0\x28", 8));
  EXPECT_EQ(stack->read(0xfff8, 8).value(), std::string("\0\0\0\0\0\0\xff\xf8", 8));
}

TEST(Pattern, AnyPartOfAWordCanBeRead) {
  auto stack = pattern("1M");
  for (std::uint64_t offset = 0x12340; offset < 0x12350; ++offset) {
    for (std::size_t length = 1; length < 40; ++length) {
      ASSERT_EQ(stack->read(offset, length).value(), expected(offset, length))
          << offset << '+' << length;
    }
  }
}

TEST(Pattern, TheLargestDiskIsServedToItsLastByte) {
  auto stack = pattern("9223372036854775807");
  std::uint64_t size = stack->device().properties().size;
  ASSERT_EQ(size, 9223372036854775807u);
  EXPECT_EQ(stack->read(size - 15, 15).value(),
            std::string("\x7f\xff\xff\xff\xff\xff\xff\xf0\x7f\xff\xff\xff\xff\xff\xff", 15));
}

TEST(Pattern, IsReadOnlyAndAllData) {
  auto stack = pattern("1M");
  const Properties& properties = stack->device().properties();
  EXPECT_FALSE(properties.can_write);
  EXPECT_FALSE(properties.can_flush);
  EXPECT_FALSE(properties.can_trim);
  EXPECT_TRUE(properties.can_multi_conn);
  EXPECT_EQ(stack->write(0, "x").error().code, std::errc::read_only_file_system);
  auto extents = stack->extents(0, 1 << 20);
  ASSERT_EQ(extents.value().size(), 1u);
  EXPECT_EQ(extents.value()[0].type, ExtentType::data);
}

TEST(Pattern, WithoutASizeTheDiskIsEmpty) {
  auto stack = Stack::plugin("pattern", {}).value();
  ASSERT_TRUE(stack->open().ok());
  EXPECT_EQ(stack->device().properties().size, 0u);
}

TEST(Pattern, ABadSizeIsRefusedWithTheKeyAndTheValue) {
  for (std::string_view size : {"12x", "-1", "9223372036854775808", ""}) {
    auto made = Stack::plugin("pattern", {{"size", size}});
    ASSERT_FALSE(made.ok()) << size;
    EXPECT_NE(made.error().message().find("size=" + std::string(size)), std::string::npos);
  }
}

}  // namespace
}  // namespace nbdkit
