// SPDX-License-Identifier: BSD-3-Clause
#include "base/latency_histogram.h"

#include <numeric>

namespace nbdkit {

std::uint64_t LatencyHistogram::total() const {
  return std::accumulate(counts_.begin(), counts_.end(), std::uint64_t{0});
}

std::optional<Nanoseconds> LatencyHistogram::quantile(unsigned thousandths) const {
  const std::uint64_t all = total();
  if (all == 0) return {};
  // Rounded up: the slowest of few counts.
  const std::uint64_t wanted =
      all - all / 1000 * (1000 - thousandths) - all % 1000 * (1000 - thousandths) / 1000;
  std::uint64_t reached = 0;
  std::size_t bucket = 0;
  for (; bucket < kBuckets - 1; ++bucket) {
    reached += counts_[bucket];
    if (reached >= wanted) break;
  }
  return limit_of(bucket);
}

LatencyHistogram& LatencyHistogram::operator+=(const LatencyHistogram& other) {
  for (std::size_t i = 0; i < kBuckets; ++i) counts_[i] += other.counts_[i];
  return *this;
}

LatencyHistogram LatencyHistogram::since(const LatencyHistogram& earlier) const {
  LatencyHistogram out;
  for (std::size_t i = 0; i < kBuckets; ++i) {
    out.counts_[i] = counts_[i] - std::min(counts_[i], earlier.counts_[i]);
  }
  return out;
}

}  // namespace nbdkit
