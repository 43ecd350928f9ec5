// SPDX-License-Identifier: BSD-3-Clause
// The part of the engine that knows how answers look: simple ones, and chunks with headers of both
// sizes.
#include <algorithm>
#include <limits>
#include <utility>

#include "server/transmission_slot.h"

namespace nbdkit {
namespace {

constexpr std::size_t kTextMax = 4096;  // bytes (NBD protocol, "Strings")

ErrorAudience audience(const RequestHeader& header) {
  if (has(header, command_flag::kFastZero)) return ErrorAudience::fast_zero;
  if (has(header, command_flag::kDontFragment)) return ErrorAudience::dont_fragment;
  return ErrorAudience::other;
}

// Extents that begin before `end`: what begins behind the request is nobody's business.
std::span<const Extent> until(std::span<const Extent> extents, std::uint64_t end) {
  std::size_t count = 0;
  while (count < extents.size() && extents[count].offset < end) ++count;
  return extents.first(count);
}

// What a metadata context says of a range.
struct Status {
  std::uint64_t length;
  std::uint32_t value;
};

std::uint32_t value_of(ExtentType type, const MetaContext& context) {
  const auto bits = static_cast<std::uint32_t>(type);
  if (context.id == kBaseAllocation.id) return bits;
  return (bits & static_cast<std::uint32_t>(ExtentType::hole)) != 0 ? 0 : 1;
}

// Neighbours that are the same for this context are one.
std::vector<Status> statuses_of(std::span<const Extent> extents, const MetaContext& context) {
  std::vector<Status> all;
  for (const Extent& extent : extents) {
    const std::uint32_t value = value_of(extent.type, context);
    if (!all.empty() && all.back().value == value) {
      all.back().length += extent.length;
    } else {
      all.push_back({extent.length, value});
    }
  }
  return all;
}

std::vector<StatusExtentWire> to_wires(std::span<const Status> statuses) {
  // Lengths have 32 bits here; this is the last multiple of every block size below 4 GiB.
  constexpr std::uint64_t kLengthMax =
      std::uint64_t{std::numeric_limits<std::uint32_t>::max()} - 65535;
  std::vector<StatusExtentWire> wires;
  for (const Status& status : statuses) {
    StatusExtentWire& wire = wires.emplace_back();
    wire.length = static_cast<std::uint32_t>(std::min(status.length, kLengthMax));
    wire.flags = status.value;
    if (status.length > kLengthMax) break;  // No gaps: the next one would begin too early.
  }
  return wires;
}

std::vector<ExtendedStatusExtentWire> to_extended_wires(std::span<const Status> statuses) {
  std::vector<ExtendedStatusExtentWire> wires(statuses.size());
  for (std::size_t i = 0; i < statuses.size(); ++i) {
    wires[i].length = statuses[i].length;
    wires[i].flags = statuses[i].value;
  }
  return wires;
}

}  // namespace

void Transmission::add_chunk(const RequestHeader& header, std::uint16_t flags, ChunkType type,
                             std::uint64_t length) {
  if (agreement_.extended_headers) {
    return outbox_.add(
        ExtendedChunkWire{kExtendedChunkMagic, flags, type, header.cookie, header.offset, length});
  }
  outbox_.add(
      ChunkWire{kChunkMagic, flags, type, header.cookie, static_cast<std::uint32_t>(length)});
}

void Transmission::answer(Slot& slot, const Result<void>& result) {
  const RequestHeader& header = slot.header;
  if (!result.ok()) {
    const Error& error = result.error();
    return answer_error(header, {to_nbd_error(error.code, audience(header)), error.detail()});
  }
  if (header.command == Command::block_status) return answer_block_status(slot);
  if (header.command == Command::read && agreement_.structured_replies) return answer_read(slot);
  outbox_.count_message();
  if (agreement_.extended_headers) return add_chunk(header, kChunkDone, ChunkType::none, 0);
  outbox_.add(SimpleReplyWire{kSimpleReplyMagic, 0, header.cookie});
  if (header.command != Command::read) return;
  for (const Reply::Piece& piece : slot.reply.pieces()) outbox_.add(piece.data, piece.length);
}

void Transmission::answer_error(const RequestHeader& header, Refusal refusal) {
  mark_dirty();
  outbox_.count_message();
  if (!agreement_.structured_replies) {
    return outbox_.add(SimpleReplyWire{kSimpleReplyMagic, static_cast<std::uint32_t>(refusal.error),
                                       header.cookie});
  }
  refusal.why = refusal.why.substr(0, kTextMax);
  add_chunk(header, kChunkDone, ChunkType::error, sizeof(ErrorWire) + refusal.why.size());
  add_error(refusal);
}

void Transmission::add_error(Refusal refusal) {
  outbox_.add(ErrorWire{static_cast<std::uint32_t>(refusal.error),
                        static_cast<std::uint16_t>(refusal.why.size())});
  outbox_.add_copy(std::as_bytes(std::span(refusal.why)));
}

// The last chunk of an answer that had to stop at `offset`.
void Transmission::answer_error_at(const RequestHeader& header, std::uint64_t offset) {
  add_chunk(header, kChunkDone, ChunkType::error_offset,
            sizeof(ErrorWire) + kBeyondTheEnd.size() + sizeof(OffsetWire));
  add_error({NbdError::invalid, kBeyondTheEnd});
  outbox_.add(OffsetWire(offset));
}

// Every run of data and every hole is a chunk; a client that forbids fragments gets one of data.
void Transmission::answer_read(const Slot& slot) {
  const RequestHeader& header = slot.header;
  std::span<const Reply::Piece> pieces = slot.reply.pieces();
  bool whole = has(header, command_flag::kDontFragment);
  bool complete = slot.served == header.length;
  std::uint64_t offset = header.offset;
  outbox_.count_message();
  for (std::size_t i = 0; i < pieces.size();) {
    std::size_t length = pieces[i].length;
    std::size_t next = i + 1;
    bool hole = pieces[i].data == nullptr && !whole;
    while (!hole && next < pieces.size() && (whole || pieces[next].data != nullptr)) {
      length += pieces[next++].length;
    }
    std::uint16_t flags = complete && next == pieces.size() ? kChunkDone : std::uint16_t{0};
    if (hole) {
      add_chunk(header, flags, ChunkType::offset_hole, sizeof(HoleWire));
      outbox_.add(HoleWire{offset, static_cast<std::uint32_t>(length)});
    } else {
      add_chunk(header, flags, ChunkType::offset_data, sizeof(OffsetWire) + length);
      outbox_.add(OffsetWire(offset));
      for (std::size_t k = i; k < next; ++k) outbox_.add(pieces[k].data, pieces[k].length);
    }
    offset += length;
    i = next;
  }
  if (!complete) answer_error_at(header, offset);
}

void Transmission::answer_block_status(const Slot& slot) {
  const RequestHeader& header = slot.header;
  std::span<const Extent> extents = until(slot.extents->list(), header.offset + slot.served);
  if (extents.empty()) {
    context_.log().error(who_, "extents: the answer does not reach the offset {}", header.offset);
    return answer_error(header, {NbdError::invalid, "nothing is known about this range"});
  }
  outbox_.count_message();
  MetaContextSet left = agreement_.contexts;
  for (const MetaContext& context : kMetaContexts) {
    if (!left.has(context)) continue;
    left.remove(context);
    const bool done = left.empty() && slot.served == header.length;
    add_status(slot, done ? kChunkDone : std::uint16_t{0}, context, extents);
  }
  if (slot.served != header.length) answer_error_at(header, device_.properties().size);
}

void Transmission::add_status(const Slot& slot, std::uint16_t flags, const MetaContext& context,
                              std::span<const Extent> extents) {
  const RequestHeader& header = slot.header;
  std::vector<Status> statuses = statuses_of(extents, context);
  if (has(header, command_flag::kReqOne)) {
    statuses.resize(1);
    statuses.front().length = std::min(statuses.front().length, slot.served);
  }
  if (agreement_.extended_headers) {
    auto wires = to_extended_wires(statuses);
    auto body = std::as_bytes(std::span(wires));
    add_chunk(header, flags, ChunkType::block_status_extended,
              sizeof(ExtendedStatusWire) + body.size());
    outbox_.add(ExtendedStatusWire{context.id, static_cast<std::uint32_t>(wires.size())});
    outbox_.add_copy(body);
  } else {
    auto wires = to_wires(statuses);
    auto body = std::as_bytes(std::span(wires));
    add_chunk(header, flags, ChunkType::block_status, sizeof(StatusWire) + body.size());
    outbox_.add(StatusWire{context.id});
    outbox_.add_copy(body);
  }
}

}  // namespace nbdkit
