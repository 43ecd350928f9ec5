// SPDX-License-Identifier: BSD-3-Clause
#include "block/properties.h"

#include <fmt/format.h>

#include <utility>

#include "base/range.h"

namespace nbdkit {
namespace {

constexpr std::uint32_t kMinimumBlockMax = 64 * 1024;
constexpr std::uint32_t kPreferredBlockMin = 512;
constexpr std::uint32_t kPreferredBlockMax = 32 * 1024 * 1024;
constexpr std::uint32_t kNoBlockMax = 0xffffffff;

Error wrong(std::string text) { return Error(std::errc::invalid_argument, std::move(text)); }

}  // namespace

Result<void> check_block_size(const BlockSize& block) {
  if (block.minimum == 0 && block.preferred == 0 && block.maximum == 0) return {};
  if (!is_power_of_2(block.minimum) || block.minimum > kMinimumBlockMax) {
    return wrong(
        fmt::format("block_size gave the minimum {}, which is no power of 2 from 1 to "
                    "65536",
                    block.minimum));
  }
  if (!is_power_of_2(block.preferred) || block.preferred < kPreferredBlockMin ||
      block.preferred > kPreferredBlockMax) {
    return wrong(
        fmt::format("block_size gave the preferred size {}, which is no power of 2 "
                    "from 512 to 33554432",
                    block.preferred));
  }
  if (block.maximum != kNoBlockMax && block.maximum % block.minimum != 0) {
    return wrong(
        fmt::format("block_size gave the maximum {}, which is no multiple of the "
                    "minimum {}",
                    block.maximum, block.minimum));
  }
  if (block.minimum > block.preferred || block.preferred > block.maximum) {
    return wrong(
        fmt::format("block_size gave sizes out of order: minimum {}, preferred {}, "
                    "maximum {}",
                    block.minimum, block.preferred, block.maximum));
  }
  return {};
}

}  // namespace nbdkit
