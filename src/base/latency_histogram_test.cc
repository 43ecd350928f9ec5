// SPDX-License-Identifier: BSD-3-Clause
#include "base/latency_histogram.h"

#include <gtest/gtest.h>

namespace nbdkit {
namespace {

TEST(LatencyHistogramTest, EveryLatencyIsInTheBucketBelowWhoseLimitItIs) {
  for (std::size_t i = 0; i + 1 < LatencyHistogram::kBuckets; ++i) {
    Nanoseconds limit = LatencyHistogram::limit_of(i);
    EXPECT_EQ(LatencyHistogram::bucket_of(limit - Nanoseconds(1)), i);
    EXPECT_EQ(LatencyHistogram::bucket_of(limit), i + 1);
    EXPECT_GT(LatencyHistogram::limit_of(i + 1), limit);
  }
}

TEST(LatencyHistogramTest, WhatIsReadOutIsAtMostAQuarterTooLong) {
  for (Nanoseconds took{1024}; took < Seconds(3600); took = took * 21 / 20) {
    LatencyHistogram histogram;
    histogram.add(took);
    Nanoseconds read = histogram.quantile(990).value();
    EXPECT_GT(read, took);
    EXPECT_LE(read.count(), took.count() + took.count() / 4 + 1);
  }
}

TEST(LatencyHistogramTest, NoLatencyIsTooSmallOrTooLarge) {
  EXPECT_EQ(LatencyHistogram::bucket_of(Nanoseconds(0)), 0u);
  EXPECT_EQ(LatencyHistogram::bucket_of(Nanoseconds(-5)), 0u);
  EXPECT_EQ(LatencyHistogram::bucket_of(Nanoseconds::max()), LatencyHistogram::kBuckets - 1);
}

TEST(LatencyHistogramTest, QuantilesCountFromTheFastest) {
  LatencyHistogram histogram;
  EXPECT_FALSE(histogram.quantile(990));
  for (int i = 0; i < 98; ++i) histogram.add(Nanoseconds(100));
  histogram.add(Milliseconds(1));
  histogram.add(Seconds(1));
  EXPECT_EQ(histogram.quantile(500), LatencyHistogram::limit_of(0));
  EXPECT_EQ(histogram.quantile(980), LatencyHistogram::limit_of(0));
  EXPECT_EQ(histogram.quantile(990),
            LatencyHistogram::limit_of(LatencyHistogram::bucket_of(Milliseconds(1))));
  EXPECT_EQ(histogram.quantile(999),
            LatencyHistogram::limit_of(LatencyHistogram::bucket_of(Seconds(1))));
  EXPECT_EQ(histogram.quantile(1000), histogram.quantile(999));
}

TEST(LatencyHistogramTest, ADifferenceNeverGoesBelowNothing) {
  LatencyHistogram earlier;
  earlier.add(Nanoseconds(1));
  earlier.add(Seconds(1));
  LatencyHistogram later;
  later.add(Seconds(1));
  later.add(Seconds(1));
  LatencyHistogram difference = later.since(earlier);
  EXPECT_EQ(difference.total(), 1u);
  difference += earlier;
  EXPECT_EQ(difference.total(), 3u);
}

}  // namespace
}  // namespace nbdkit
