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

struct RequestHeader {
  Command command;
  std::uint16_t flags;
  Cookie cookie;
  std::uint64_t offset;
  std::uint32_t length;
};

// Nothing when the magic is wrong: what follows cannot be understood any more. Whether the request
// makes sense is the engine's business, because that failure gets a reply.
std::optional<RequestHeader> parse_request(std::span<const std::byte, sizeof(RequestWire)> packet);
// The inverse, for a request that goes back to where it came from.
RequestWire to_wire(const RequestHeader& header);

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
  error = 0x8001,
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

struct OffsetDataWire {
  ChunkWire chunk;
  Be<std::uint64_t> offset;
};
static_assert(sizeof(OffsetDataWire) == 28);

struct OffsetHoleWire {
  ChunkWire chunk;
  Be<std::uint64_t> offset;
  Be<std::uint32_t> length;
};
static_assert(sizeof(OffsetHoleWire) == 32);

struct ErrorChunkWire {
  ChunkWire chunk;
  Be<std::uint32_t> error;
  Be<std::uint16_t> text_length;
};
static_assert(sizeof(ErrorChunkWire) == 26);

struct BlockStatusWire {
  ChunkWire chunk;
  Be<std::uint32_t> context;
};
static_assert(sizeof(BlockStatusWire) == 24);

inline constexpr std::uint32_t kBaseAllocationId = 1;  // what we call this metadata context

struct StatusExtentWire {
  Be<std::uint32_t> length;
  Be<std::uint32_t> flags;
};
static_assert(sizeof(StatusExtentWire) == 8);

}  // namespace nbdkit
