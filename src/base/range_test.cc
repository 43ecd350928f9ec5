// SPDX-License-Identifier: BSD-3-Clause
#include "base/range.h"

#include <gtest/gtest.h>

#include <limits>

namespace nbdkit {
namespace {

constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();

TEST(Range, FitsUpToTheEnd) {
  EXPECT_TRUE(range_fits(0, 0, 0));
  EXPECT_TRUE(range_fits(0, 10, 10));
  EXPECT_TRUE(range_fits(10, 0, 10));
  EXPECT_FALSE(range_fits(0, 11, 10));
  EXPECT_FALSE(range_fits(9, 2, 10));
  EXPECT_FALSE(range_fits(11, 0, 10));
}

TEST(Range, NoSumWraps) {
  EXPECT_FALSE(range_fits(kMax, 2, 10));
  EXPECT_FALSE(range_fits(1, kMax, 10));
  EXPECT_FALSE(range_fits(kMax, kMax, kMax - 1));
  EXPECT_TRUE(range_fits(kMax, 0, kMax));
  EXPECT_TRUE(range_fits(0, kMax, kMax));
  EXPECT_FALSE(range_fits(1, kMax, kMax));
}

TEST(Range, Powers) {
  EXPECT_FALSE(is_power_of_2(0));
  EXPECT_TRUE(is_power_of_2(1));
  EXPECT_FALSE(is_power_of_2(3));
  EXPECT_TRUE(is_power_of_2(std::uint64_t{1} << 63));
}

TEST(Range, Rounding) {
  EXPECT_EQ(round_down(1023, 512), 512u);
  EXPECT_EQ(round_down(512, 512), 512u);
  EXPECT_EQ(round_up(513, 512), 1024u);
  EXPECT_EQ(round_up(512, 512), 512u);
  EXPECT_EQ(round_up(0, 512), 0u);
  EXPECT_EQ(round_up(7, 1), 7u);
  EXPECT_EQ(round_up(kMax, 512), 0u);  // The header says so.
  EXPECT_TRUE(is_aligned(1024, 512));
  EXPECT_FALSE(is_aligned(1025, 512));
  EXPECT_TRUE(is_aligned(3, 1));
}

}  // namespace
}  // namespace nbdkit
