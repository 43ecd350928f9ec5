// SPDX-License-Identifier: BSD-3-Clause
#include "proto/transmission.h"

#include <cstring>

namespace nbdkit {
namespace {

template <typename Wire>
std::optional<RequestHeader> parse(std::span<const std::byte, sizeof(Wire)> packet,
                                   std::uint32_t magic) {
  Wire wire;
  std::memcpy(&wire, packet.data(), sizeof wire);
  if (wire.magic.get() != magic) return std::nullopt;
  return RequestHeader{wire.command.get(), wire.flags.get(), wire.cookie.get(), wire.offset.get(),
                       wire.length.get()};
}

template <typename Wire>
ChunkHeader to_chunk_header(std::span<const std::byte, sizeof(Wire)> packet) {
  Wire wire;
  std::memcpy(&wire, packet.data(), sizeof wire);
  return {wire.flags.get(), wire.type.get(), wire.cookie.get(), wire.length.get()};
}

}  // namespace

std::optional<RequestHeader> parse_request(std::span<const std::byte, sizeof(RequestWire)> packet) {
  return parse<RequestWire>(packet, kRequestMagic);
}

std::optional<RequestHeader> parse_extended_request(
    std::span<const std::byte, sizeof(ExtendedRequestWire)> packet) {
  return parse<ExtendedRequestWire>(packet, kExtendedRequestMagic);
}

bool has_payload(const RequestHeader& header, bool extended_headers) {
  if (header.command == Command::write) return true;
  return extended_headers && (header.flags & command_flag::kPayloadLength) != 0;
}

RequestWire to_wire(const RequestHeader& header) {
  return {kRequestMagic, header.flags,  header.command,
          header.cookie, header.offset, static_cast<std::uint32_t>(header.length)};
}

ExtendedRequestWire to_extended_wire(const RequestHeader& header) {
  return {kExtendedRequestMagic, header.flags,  header.command,
          header.cookie,         header.offset, header.length};
}

ChunkHeader parse_chunk(std::span<const std::byte, sizeof(ChunkWire)> packet) {
  return to_chunk_header<ChunkWire>(packet);
}

ChunkHeader parse_extended_chunk(std::span<const std::byte, sizeof(ExtendedChunkWire)> packet) {
  return to_chunk_header<ExtendedChunkWire>(packet);
}

}  // namespace nbdkit
