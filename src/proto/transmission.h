// SPDX-License-Identifier: BSD-3-Clause
// Requests and replies of the transmission phase on the wire (NBD protocol, "Transmission phase").
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "proto/be.h"

namespace nbdkit {

inline constexpr std::uint32_t kRequestMagic = 0x25609513;
inline constexpr std::uint32_t kSimpleReplyMagic = 0x67446698;
inline constexpr std::uint32_t kChunkMagic = 0x668e33ef;
inline constexpr std::uint32_t kExtendedRequestMagic = 0x21e41c71;
inline constexpr std::uint32_t kExtendedChunkMagic = 0x6e8a278c;

enum class Command : std::uint16_t {
  read = 0,
  write = 1,
  disconnect = 2,
  flush = 3,
  trim = 4,
  cache = 5,
  write_zeroes = 6,
  block_status = 7,
};

namespace command_flag {
inline constexpr std::uint16_t kFua = 1 << 0;
inline constexpr std::uint16_t kNoHole = 1 << 1;
inline constexpr std::uint16_t kDontFragment = 1 << 2;
inline constexpr std::uint16_t kReqOne = 1 << 3;
inline constexpr std::uint16_t kFastZero = 1 << 4;
inline constexpr std::uint16_t kPayloadLength = 1 << 5;  // with extended headers only
}  // namespace command_flag

enum class Cookie : std::uint64_t {};  // The client's; we only ever echo it.

struct RequestWire {
  Be<std::uint32_t> magic;
  Be<std::uint16_t> flags;
  Be<Command> command;
  Be<Cookie> cookie;
  Be<std::uint64_t> offset;
  Be<std::uint32_t> length;
};
static_assert(sizeof(RequestWire) == 28, "the protocol fixes the size");
static_assert(alignof(RequestWire) == 1, "read straight from the receive buffer");

// With extended headers (NBD_OPT_EXTENDED_HEADERS).
struct ExtendedRequestWire {
  Be<std::uint32_t> magic;
  Be<std::uint16_t> flags;
  Be<Command> command;
  Be<Cookie> cookie;
  Be<std::uint64_t> offset;
  Be<std::uint64_t> length;
};
static_assert(sizeof(ExtendedRequestWire) == 32 && alignof(ExtendedRequestWire) == 1);

struct RequestHeader {
  Command command;
  std::uint16_t flags;
  Cookie cookie;
  std::uint64_t offset;
  std::uint64_t length;
};

// Nothing when the magic is wrong: what follows cannot be understood any more. Whether the request
// makes sense is the engine's business, because that failure gets a reply.
std::optional<RequestHeader> parse_request(std::span<const std::byte, sizeof(RequestWire)> packet);
std::optional<RequestHeader> parse_extended_request(
    std::span<const std::byte, sizeof(ExtendedRequestWire)> packet);
// Whether header.length bytes of payload follow. A write has them in any case: with extended
// headers it must say so by a flag, but QEMU's client (seen: 10.0) does not. No other command has
// use for one, and is refused after it has been taken.
bool has_payload(const RequestHeader& header, bool extended_headers);
// The inverse. A length of more than 32 bits needs the extended one.
RequestWire to_wire(const RequestHeader& header);
ExtendedRequestWire to_extended_wire(const RequestHeader& header);

struct SimpleReplyWire {
  Be<std::uint32_t> magic{kSimpleReplyMagic};
  Be<std::uint32_t> error;
  Be<Cookie> cookie;
};
static_assert(sizeof(SimpleReplyWire) == 16);

enum class ChunkType : std::uint16_t {
  none = 0,
  offset_data = 1,
  offset_hole = 2,
  block_status = 5,
  block_status_extended = 6,
  error = 0x8001,
  error_offset = 0x8002,
};

inline constexpr std::uint16_t kChunkDone = 1;

struct ChunkWire {
  Be<std::uint32_t> magic{kChunkMagic};
  Be<std::uint16_t> flags;
  Be<ChunkType> type;
  Be<Cookie> cookie;
  Be<std::uint32_t> length;  // of what follows
};
static_assert(sizeof(ChunkWire) == 20);

struct ExtendedChunkWire {
  Be<std::uint32_t> magic{kExtendedChunkMagic};
  Be<std::uint16_t> flags;
  Be<ChunkType> type;
  Be<Cookie> cookie;
  Be<std::uint64_t> offset;  // the request's
  Be<std::uint64_t> length;  // of what follows
};
static_assert(sizeof(ExtendedChunkWire) == 32);

struct ChunkHeader {
  std::uint16_t flags;
  ChunkType type;
  Cookie cookie;
  std::uint64_t length;  // of what follows
};
// Of a packet whose magic number has been looked at already.
ChunkHeader parse_chunk(std::span<const std::byte, sizeof(ChunkWire)> packet);
ChunkHeader parse_extended_chunk(std::span<const std::byte, sizeof(ExtendedChunkWire)> packet);

// Every type of chunk that reports a failure, known or not, has this bit.
inline constexpr std::uint16_t kErrorChunk = 1 << 15;

// What follows the header of a chunk. Data stands behind its offset, an error's text behind
// ErrorWire (and behind that, in an error_offset, the offset); extents behind their context.
using OffsetWire = Be<std::uint64_t>;

struct HoleWire {
  Be<std::uint64_t> offset;
  Be<std::uint32_t> length;
};
static_assert(sizeof(HoleWire) == 12);

struct ErrorWire {
  Be<std::uint32_t> error;
  Be<std::uint16_t> text_length;
};
static_assert(sizeof(ErrorWire) == 6);

struct StatusWire {
  Be<std::uint32_t> context;
};
static_assert(sizeof(StatusWire) == 4);

struct ExtendedStatusWire {
  Be<std::uint32_t> context;
  Be<std::uint32_t> count;  // of the extents
};
static_assert(sizeof(ExtendedStatusWire) == 8);

struct StatusExtentWire {
  Be<std::uint32_t> length;
  Be<std::uint32_t> flags;
};
static_assert(sizeof(StatusExtentWire) == 8);

struct ExtendedStatusExtentWire {
  Be<std::uint64_t> length;
  Be<std::uint64_t> flags;
};
static_assert(sizeof(ExtendedStatusExtentWire) == 16);

}  // namespace nbdkit
