// SPDX-License-Identifier: BSD-3-Clause
#include "client/coverage.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

namespace nbdkit {
namespace {

TEST(Coverage, PiecesInAnyOrderMakeAWhole) {
  std::vector<unsigned> order(100);
  std::iota(order.begin(), order.end(), 0u);
  std::mt19937 random(1);
  for (int round = 0; round < 50; ++round) {
    std::shuffle(order.begin(), order.end(), random);
    Coverage coverage;
    for (unsigned i : order) {
      EXPECT_FALSE(coverage.complete(1000));
      ASSERT_TRUE(coverage.add(10 * i, 10 * i + 10));
    }
    EXPECT_TRUE(coverage.complete(1000));
  }
}

TEST(Coverage, NothingIsCoveredTwice) {
  Coverage coverage;
  ASSERT_TRUE(coverage.add(0, 10));
  ASSERT_TRUE(coverage.add(20, 30));
  for (auto [from, to] :
       {std::pair(0, 1), {9, 10}, {9, 11}, {15, 21}, {20, 30}, {22, 23}, {29, 40}, {10, 25}}) {
    EXPECT_FALSE(coverage.add(from, to)) << from;
  }
  EXPECT_TRUE(coverage.add(10, 20));
  EXPECT_TRUE(coverage.complete(30));
  EXPECT_FALSE(coverage.complete(31));
}

TEST(Coverage, PiecesThatLieApartHaveALimit) {
  Coverage coverage;
  std::uint64_t at = 2;
  for (std::size_t i = 0; i < Coverage::kIslandsMax; ++i, at += 2) {
    ASSERT_TRUE(coverage.add(at, at + 1));
  }
  EXPECT_FALSE(coverage.add(at, at + 1));
  EXPECT_TRUE(coverage.add(0, 2)) << "what makes fewer of them is welcome";
}

}  // namespace
}  // namespace nbdkit
