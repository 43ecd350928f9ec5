// SPDX-License-Identifier: BSD-3-Clause
// Request: what is asked of a block device, without its data.
#pragma once

#include <cstdint>

namespace nbdkit {

enum class Offset : std::uint64_t {};  // Bytes from the start of the export.

// What a request may ask for besides its range. A layer gets only flags it announced.
enum class RequestFlags : std::uint32_t {
  none = 0,
  fua = 1,        // write, trim, zero: durable before the answer
  may_trim = 2,   // zero: the range may become a hole
  fast_zero = 4,  // zero: fail with not_supported rather than be as slow as writing
  one = 8,        // extents: the first extent is enough
  no_holes = 16,  // read: the answer must be one piece of data (NBD's DF)
};

constexpr RequestFlags operator|(RequestFlags a, RequestFlags b) {
  return static_cast<RequestFlags>(static_cast<std::uint32_t>(a) | static_cast<std::uint32_t>(b));
}
constexpr RequestFlags operator&(RequestFlags a, RequestFlags b) {
  return static_cast<RequestFlags>(static_cast<std::uint32_t>(a) & static_cast<std::uint32_t>(b));
}
constexpr RequestFlags operator~(RequestFlags a) {
  return static_cast<RequestFlags>(~static_cast<std::uint32_t>(a));
}

// A value: layers pass changed copies on. The engine has checked that the range is not empty and
// lies inside the device that it asks; a layer that changes the range keeps that true.
class Request {
 public:
  constexpr Request(Offset first_byte, std::uint64_t bytes, RequestFlags asked = RequestFlags::none)
      : offset(static_cast<std::uint64_t>(first_byte)), length(bytes), flags(asked) {}

  constexpr bool has(RequestFlags flag) const { return (flags & flag) != RequestFlags::none; }
  constexpr std::uint64_t end() const { return offset + length; }
  constexpr Request at(std::uint64_t new_offset) const {
    return {Offset{new_offset}, length, flags};
  }
  constexpr Request part(std::uint64_t from, std::uint64_t bytes) const {
    return {Offset{offset + from}, bytes, flags};
  }
  constexpr Request with(RequestFlags new_flags) const {
    return {Offset{offset}, length, new_flags};
  }

  std::uint64_t offset;
  std::uint64_t length;
  RequestFlags flags;
};

}  // namespace nbdkit
