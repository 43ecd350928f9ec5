// SPDX-License-Identifier: BSD-3-Clause
#include "client/coverage.h"

#include <algorithm>

namespace nbdkit {

bool Coverage::add(std::uint64_t from, std::uint64_t to) {
  if (from < shore_) return false;
  auto next = std::find_if(islands_.begin(), islands_.end(),
                           [&](const Island& island) { return island.to > from; });
  if (next != islands_.end() && next->from < to) return false;
  if (next != islands_.end() && next->from == to) {
    to = next->to;
    next = islands_.erase(next);
  }
  if (from == shore_) {
    shore_ = to;
  } else if (next != islands_.begin() && (next - 1)->to == from) {
    (next - 1)->to = to;
  } else if (islands_.size() < kIslandsMax) {
    islands_.insert(next, Island{from, to});
  } else {
    return false;
  }
  return true;
}

}  // namespace nbdkit
