// SPDX-License-Identifier: BSD-3-Clause
// Arithmetic on offsets and lengths that come from outside and may overflow.
#pragma once

#include <bit>
#include <cstdint>

namespace nbdkit {

// Whether [offset, offset + length) lies inside [0, size). No sum that could wrap is formed.
constexpr bool range_fits(std::uint64_t offset, std::uint64_t length, std::uint64_t size) {
  return offset <= size && length <= size - offset;
}

constexpr bool is_power_of_2(std::uint64_t n) { return std::has_single_bit(n); }

// `alignment` is a power of 2.
constexpr std::uint64_t round_down(std::uint64_t n, std::uint64_t alignment) {
  return n & ~(alignment - 1);
}
// Wraps to 0 when the next multiple does not fit in 64 bits.
constexpr std::uint64_t round_up(std::uint64_t n, std::uint64_t alignment) {
  return round_down(n + alignment - 1, alignment);
}
constexpr bool is_aligned(std::uint64_t n, std::uint64_t alignment) {
  return (n & (alignment - 1)) == 0;
}

}  // namespace nbdkit
