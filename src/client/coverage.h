// SPDX-License-Identifier: BSD-3-Clause
// Coverage: which parts of a read have been answered. Chunks come in any order, but none twice.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace nbdkit {

class Coverage {
 public:
  // Runs of bytes that lie apart, because chunks came out of order. Servers send in order, or a few
  // pieces at once; without a limit one could make each byte a run.
  static constexpr std::size_t kIslandsMax = 1024;

  // False when a part of [from, to) was covered before, or there are too many islands. from < to.
  bool add(std::uint64_t from, std::uint64_t to);
  // Whether everything from 0 to `length` is covered.
  bool complete(std::uint64_t length) const { return islands_.empty() && shore_ == length; }

 private:
  struct Island {
    std::uint64_t from;
    std::uint64_t to;
  };

  std::uint64_t shore_ = 0;      // all before is covered
  std::vector<Island> islands_;  // in ascending order, none touches another or the shore
};

}  // namespace nbdkit
