// SPDX-License-Identifier: BSD-3-Clause
// Extents: which parts of a range are allocated and which read as zeroes.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"

namespace nbdkit {

// The bits of base:allocation (NBD protocol, "Metadata querying").
enum class ExtentType : std::uint32_t { data = 0, hole = 1, zero = 2, hole_and_zero = 3 };

struct Extent {
  std::uint64_t offset;
  std::uint64_t length;
  ExtentType type;
};

// Collects the answer of BlockDevice::extents() in ascending order without gaps.
class Extents {
 public:
  static constexpr std::size_t kExtentsMax = 1 << 20;

  // Collects from `start`; what lies before is dropped, what goes beyond `end` is cut.
  Extents(std::uint64_t start, std::uint64_t end) : start_(start), end_(end) {}

  // Empty ones are ignored, neighbours of one type are merged, and once kExtentsMax are there the
  // rest is ignored: the answer may be shorter than the question. A gap is result_out_of_range.
  Result<void> add(std::uint64_t offset, std::uint64_t length, ExtentType type);

  // Whether nothing more would be taken.
  bool full() const { return next() >= end_ || extents_.size() >= kExtentsMax; }
  std::uint64_t start() const { return start_; }
  std::uint64_t end() const { return end_; }
  // Where the next extent has to begin.
  std::uint64_t next() const {
    return extents_.empty() ? start_ : extents_.back().offset + extents_.back().length;
  }
  std::span<const Extent> list() const { return extents_; }

 private:
  std::uint64_t start_;
  std::uint64_t end_;
  std::vector<Extent> extents_;
};

}  // namespace nbdkit
