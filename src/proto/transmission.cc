// SPDX-License-Identifier: BSD-3-Clause
#include "proto/transmission.h"

#include <cstring>

namespace nbdkit {

std::optional<RequestHeader> parse_request(std::span<const std::byte, sizeof(RequestWire)> packet) {
  RequestWire wire;
  std::memcpy(&wire, packet.data(), sizeof wire);
  if (wire.magic.get() != kRequestMagic) return std::nullopt;
  return RequestHeader{wire.command.get(), wire.flags.get(), wire.cookie.get(), wire.offset.get(),
                       wire.length.get()};
}

RequestWire to_wire(const RequestHeader& header) {
  return {kRequestMagic, header.flags, header.command, header.cookie, header.offset, header.length};
}

}  // namespace nbdkit
