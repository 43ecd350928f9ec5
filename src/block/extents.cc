// SPDX-License-Identifier: BSD-3-Clause
#include "block/extents.h"

#include <fmt/format.h>

#include <algorithm>

namespace nbdkit {

Result<void> Extents::add(std::uint64_t offset, std::uint64_t length, ExtentType type) {
  std::uint64_t stop = offset > ~length ? ~std::uint64_t{0} : offset + length;
  stop = std::min(stop, end_);
  std::uint64_t from = next();
  if (offset > from && !full()) {
    return Error(std::errc::result_out_of_range,
                 fmt::format("extent at {} leaves a gap: {} was expected", offset, from));
  }
  if (stop <= from || full()) return {};
  if (!extents_.empty() && extents_.back().type == type) {
    extents_.back().length += stop - from;
  } else {
    extents_.push_back({from, stop - from, type});
  }
  return {};
}

}  // namespace nbdkit
