// SPDX-License-Identifier: BSD-3-Clause
#include "async/buffer_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

namespace nbdkit {
namespace {

bool is_zero(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}
void fill(const Buffer& buffer, int value) {
  std::memset(buffer.bytes().data(), value, buffer.bytes().size());
}

// Sizes on both sides of every border between the ways in which memory comes.
class BufferPoolTest : public testing::TestWithParam<std::size_t> {
 public:
  BufferPool pool;
};

TEST_P(BufferPoolTest, BuffersHaveTheSizeAreAlignedAndZeroed) {
  Result<Buffer> buffer = pool.get(GetParam(), 1);
  ASSERT_TRUE(buffer.ok());
  EXPECT_EQ(buffer.value().bytes().size(), GetParam());
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(buffer.value().bytes().data()) % 4096, 0u);
  EXPECT_TRUE(is_zero(buffer.value().bytes()));
  fill(buffer.value(), 0xff);  // To the last byte.
}

TEST_P(BufferPoolTest, TheSameOwnerGetsItsMemoryAgainAsItIs) {
  Buffer first = std::move(pool.get(GetParam(), 7)).value();
  std::byte* memory = first.bytes().data();
  fill(first, 0xaa);
  first.reset();
  Buffer second = std::move(pool.get(GetParam(), 7)).value();
  EXPECT_EQ(second.bytes().data(), memory);
  if (GetParam() > 64) {  // Further to the front there was the pool's own list.
    EXPECT_EQ(second.bytes()[GetParam() - 1], std::byte{0xaa});
  }
}

// A plugin that fills less than it says must not send one client another one's data.
TEST_P(BufferPoolTest, AnotherOwnerSeesNothingOfIt) {
  { fill(pool.get(GetParam(), 7).value(), 0xaa); }
  EXPECT_TRUE(is_zero(pool.get(GetParam(), 8).value().bytes()));
}

INSTANTIATE_TEST_SUITE_P(Sizes, BufferPoolTest,
                         testing::Values(1, 64, 4096, 4097, 65536, 1 << 20, (1 << 20) + 1,
                                         BufferPool::kSizeMax));

// The class has room for 8192: what lies behind a shorter buffer is cleared for others as well.
TEST(BufferPool, TheUnusedEndOfABufferIsClearedToo) {
  BufferPool pool;
  { fill(pool.get(8192, 1).value(), 0xaa); }
  { (void)pool.get(5000, 2).value(); }
  EXPECT_TRUE(is_zero(pool.get(8192, 2).value().bytes()));
}

TEST(BufferPool, MovesKeepOneOwner) {
  BufferPool pool;
  Buffer one = std::move(pool.get(100, 1)).value();
  std::byte* memory = one.bytes().data();
  Buffer two(std::move(one));
  EXPECT_FALSE(one);
  EXPECT_EQ(two.bytes().data(), memory);
  Buffer three = std::move(pool.get(200, 1)).value();
  three = std::move(two);
  EXPECT_EQ(three.bytes().data(), memory);
  Buffer& self = three;
  three = std::move(self);
  EXPECT_EQ(three.bytes().size(), 100u);
}

TEST(BufferPool, ManyBuffersAtOnceAreApart) {
  BufferPool pool;
  std::vector<Buffer> buffers;
  for (int i = 0; i < 100; ++i) {
    buffers.push_back(std::move(pool.get(5000, 1)).value());
    fill(buffers.back(), i);
  }
  for (int i = 0; i < 100; ++i) {
    std::span<std::byte> bytes = buffers[static_cast<std::size_t>(i)].bytes();
    EXPECT_TRUE(std::all_of(bytes.begin(), bytes.end(),
                            [&](std::byte b) { return b == static_cast<std::byte>(i); }));
  }
}

// How much memory a stock has, and where it lies.
TEST(BufferPool, AStockHasRoomForWhatItSays) {
  BufferPool pool;
  ASSERT_TRUE(pool.stock().ok());
  std::vector<Buffer> buffers;
  std::byte* first = nullptr;
  std::byte* last = nullptr;
  std::size_t size = 0;
  for (const BufferPool::Stocked& one : BufferPool::kStock) {
    for (std::size_t i = 0; i < one.count; ++i) {
      buffers.push_back(std::move(pool.get(i % 2 == 0 ? one.size : one.size / 2 + 1, 1)).value());
      std::byte* at = buffers.back().bytes().data();
      first = first == nullptr ? at : std::min(first, at);
      last = std::max(last, at + one.size);
      size += one.size;
      EXPECT_TRUE(is_zero(buffers.back().bytes()));
      fill(buffers.back(), 0xff);
    }
  }
  EXPECT_EQ(static_cast<std::size_t>(last - first), size);
  Buffer more = std::move(pool.get(4096, 1)).value();
  Buffer large = std::move(pool.get(BufferPool::kStockedSizeMax + 1, 1)).value();
  EXPECT_TRUE(more.bytes().data() < first || more.bytes().data() >= last);
  EXPECT_TRUE(large.bytes().data() < first || large.bytes().data() >= last);
  buffers.clear();
  EXPECT_TRUE(is_zero(pool.get(4096, 2).value().bytes()));
}

TEST(BufferPool, WhatWasThereBeforeTheStockGoesBackWhereItCameFrom) {
  BufferPool pool;
  Buffer before = std::move(pool.get(8192, 1)).value();
  ASSERT_TRUE(pool.stock().ok());
  fill(before, 0xaa);
  before.reset();
  Buffer after = std::move(pool.get(8192, 1)).value();
  EXPECT_TRUE(is_zero(after.bytes()));  // It is one of the stock's, of another size.
}

TEST(BufferPool, AsManyMayBeReservedAsThereAreOfTheirSize) {
  BufferPool pool;
  ASSERT_TRUE(pool.stock().ok());
  for (const BufferPool::Stocked& one : BufferPool::kStock) {
    for (std::size_t i = 0; i < one.count; ++i) {
      ASSERT_TRUE(pool.may_reserve(one.size));
      pool.reserve(one.size);
    }
    EXPECT_FALSE(pool.may_reserve(one.size));
    EXPECT_FALSE(pool.may_reserve(one.size / 2 + 1));
  }
  pool.give_back(4096);
  EXPECT_TRUE(pool.may_reserve(16384));
  EXPECT_FALSE(pool.may_reserve(16385));
}

TEST(BufferPoolDeathTest, SizesOutOfRangeAreABug) {
  BufferPool pool;
  EXPECT_DEATH((void)pool.get(0, 1), "does not hold");
  EXPECT_DEATH((void)pool.get(BufferPool::kSizeMax + 1, 1), "does not hold");
}

}  // namespace
}  // namespace nbdkit
