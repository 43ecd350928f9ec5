// SPDX-License-Identifier: BSD-3-Clause
// LatencyHistogram: how often something took how long, in a fixed amount of memory.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/parse.h"

namespace nbdkit {

// Buckets grow with what they hold: four to each doubling, from 1.024 us to more than an hour, so
// what is read out of it is at most a quarter too long. Counting takes no branch that depends on
// earlier counts and no division.
class LatencyHistogram {
 public:
  static constexpr unsigned kFirstBit = 10;  // what is below 2^10 ns is in the first bucket
  static constexpr unsigned kDoublings = 32;
  static constexpr std::size_t kBuckets = 1 + 4 * kDoublings;

  static constexpr std::size_t bucket_of(Nanoseconds latency) {
    auto ns = static_cast<std::uint64_t>(std::max(latency, Nanoseconds(0)).count());
    if (ns >> kFirstBit == 0) return 0;
    auto bit = static_cast<unsigned>(std::bit_width(ns)) - 1;
    std::size_t quarter = (ns >> (bit - 2)) & 3;
    return std::min<std::size_t>(1 + 4 * std::size_t{bit - kFirstBit} + quarter, kBuckets - 1);
  }
  // What is in the bucket took less. The last one holds all that took longer, too.
  static constexpr Nanoseconds limit_of(std::size_t bucket) {
    if (bucket == 0) return Nanoseconds(std::int64_t{1} << kFirstBit);
    const auto quarters = static_cast<std::int64_t>(4 + (bucket - 1) % 4 + 1);
    return Nanoseconds(quarters << (kFirstBit - 2 + (bucket - 1) / 4));
  }

  void add(Nanoseconds latency) { ++counts_[bucket_of(latency)]; }

  std::uint64_t count(std::size_t bucket) const { return counts_[bucket]; }
  void set(std::size_t bucket, std::uint64_t count) { counts_[bucket] = count; }
  std::uint64_t total() const;
  // The limit of the bucket in which so many thousandths are reached; none: it is empty.
  std::optional<Nanoseconds> quantile(unsigned thousandths) const;

  LatencyHistogram& operator+=(const LatencyHistogram& other);
  // What has come since it was `earlier`.
  LatencyHistogram since(const LatencyHistogram& earlier) const;

  bool operator==(const LatencyHistogram&) const = default;

 private:
  std::array<std::uint64_t, kBuckets> counts_{};
};

}  // namespace nbdkit
