// SPDX-License-Identifier: BSD-3-Clause
#include "block/extents.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <limits>
#include <string>

namespace nbdkit {
namespace {

std::string text(const Extents& extents) {
  std::string all;
  for (const Extent& extent : extents.list()) {
    all += fmt::format("{}+{}:{} ", extent.offset, extent.length,
                       static_cast<std::uint32_t>(extent.type));
  }
  return all;
}

TEST(Extents, NeighboursOfOneTypeAreMerged) {
  Extents extents(0, 100);
  EXPECT_TRUE(extents.add(0, 10, ExtentType::data).ok());
  EXPECT_TRUE(extents.add(10, 10, ExtentType::data).ok());
  EXPECT_TRUE(extents.add(20, 10, ExtentType::hole).ok());
  EXPECT_EQ(text(extents), "0+20:0 20+10:1 ");
  EXPECT_EQ(extents.next(), 30u);
  EXPECT_FALSE(extents.full());
}

TEST(Extents, WhatLiesBeforeIsDroppedAndWhatGoesBeyondIsCut) {
  Extents extents(10, 30);
  EXPECT_TRUE(extents.add(0, 5, ExtentType::data).ok());
  EXPECT_TRUE(extents.add(5, 10, ExtentType::zero).ok());
  EXPECT_TRUE(extents.add(15, 100, ExtentType::data).ok());
  EXPECT_EQ(text(extents), "10+5:2 15+15:0 ");
  EXPECT_TRUE(extents.full());
  EXPECT_TRUE(extents.add(115, 5, ExtentType::hole).ok());
  EXPECT_EQ(extents.list().size(), 2u);
}

TEST(Extents, EmptyOnesAreIgnored) {
  Extents extents(0, 10);
  EXPECT_TRUE(extents.add(0, 0, ExtentType::hole).ok());
  EXPECT_TRUE(extents.list().empty());
}

TEST(Extents, AGapIsRefused) {
  Extents extents(0, 100);
  Result<void> first = extents.add(1, 10, ExtentType::data);
  ASSERT_FALSE(first.ok());
  EXPECT_EQ(first.error().code, std::errc::result_out_of_range);
  EXPECT_TRUE(extents.add(0, 10, ExtentType::data).ok());
  EXPECT_FALSE(extents.add(11, 10, ExtentType::data).ok());
  EXPECT_EQ(text(extents), "0+10:0 ");
}

TEST(Extents, ALengthThatWrapsIsCut) {
  Extents extents(5, 100);
  EXPECT_TRUE(extents.add(1, std::numeric_limits<std::uint64_t>::max(), ExtentType::hole).ok());
  EXPECT_EQ(text(extents), "5+95:1 ");
}

TEST(Extents, TakesALimitedNumber) {
  Extents extents(0, std::numeric_limits<std::uint64_t>::max());
  std::uint64_t at = 0;
  for (std::size_t i = 0; i < Extents::kExtentsMax + 100; ++i, ++at) {
    ASSERT_TRUE(extents.add(at, 1, i % 2 == 0 ? ExtentType::data : ExtentType::hole).ok());
  }
  EXPECT_EQ(extents.list().size(), Extents::kExtentsMax);
  EXPECT_TRUE(extents.full());
}

}  // namespace
}  // namespace nbdkit
