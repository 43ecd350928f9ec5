// SPDX-License-Identifier: BSD-3-Clause
// Error numbers on the wire (NBD protocol, "Error values").
#pragma once

#include <cstdint>
#include <system_error>

namespace nbdkit {

enum class NbdError : std::uint32_t {
  none = 0,
  not_permitted = 1,
  io = 5,
  no_memory = 12,
  invalid = 22,
  no_space = 28,
  overflow = 75,
  not_supported = 95,
  shutdown = 108,
};

// Which of the protocol's few numbers an errno becomes. not_supported may only answer a request for
// a fast zero, and overflow only a read that must not be fragmented; elsewhere they are invalid.
enum class ErrorAudience { other, fast_zero, dont_fragment };
NbdError to_nbd_error(std::errc code, ErrorAudience audience = ErrorAudience::other);

// What a number that a server sent means here; one that is not known is invalid_argument, as the
// protocol wants it. Never std::errc{}.
std::errc from_nbd_error(std::uint32_t error);

}  // namespace nbdkit
