// SPDX-License-Identifier: BSD-3-Clause
// The part of the engine that knows the commands: what is valid, what the device is asked, and how
// the answer looks.
#include <algorithm>
#include <limits>
#include <utility>

#include "base/check.h"
#include "base/range.h"
#include "server/export_info.h"
#include "server/transmission_slot.h"

namespace nbdkit {
namespace {

// Which flags a command may carry; FUA may stand on any (NBD protocol, "Command flags").
std::uint16_t flags_of(Command command) {
  switch (command) {
    case Command::read:
      return command_flag::kFua | command_flag::kDontFragment;
    case Command::write_zeroes:
      return command_flag::kFua | command_flag::kNoHole | command_flag::kFastZero;
    case Command::block_status:
      return command_flag::kFua | command_flag::kReqOne;
    default:
      return command_flag::kFua;
  }
}

bool has(const RequestHeader& header, std::uint16_t flag) { return (header.flags & flag) != 0; }

bool changes_data(Command command) {
  return command == Command::write || command == Command::trim || command == Command::write_zeroes;
}

RequestFlags request_flags(const RequestHeader& header) {
  RequestFlags flags = RequestFlags::none;
  if (changes_data(header.command) && has(header, command_flag::kFua)) {
    flags = flags | RequestFlags::fua;
  }
  if (header.command == Command::write_zeroes) {
    if (!has(header, command_flag::kNoHole)) flags = flags | RequestFlags::may_trim;
    if (has(header, command_flag::kFastZero)) flags = flags | RequestFlags::fast_zero;
  }
  if (has(header, command_flag::kReqOne)) flags = flags | RequestFlags::one;
  if (has(header, command_flag::kDontFragment)) flags = flags | RequestFlags::no_holes;
  return flags;
}

Request to_request(const RequestHeader& header) {
  return Request(Offset{header.offset}, header.length, request_flags(header));
}

ErrorAudience audience(const RequestHeader& header) {
  if (has(header, command_flag::kFastZero)) return ErrorAudience::fast_zero;
  if (has(header, command_flag::kDontFragment)) return ErrorAudience::dont_fragment;
  return ErrorAudience::other;
}

std::string_view name(Command command) {
  switch (command) {
    case Command::read:
      return "pread";
    case Command::write:
      return "pwrite";
    case Command::disconnect:
      return "disconnect";
    case Command::flush:
      return "flush";
    case Command::trim:
      return "trim";
    case Command::cache:
      return "cache";
    case Command::write_zeroes:
      return "zero";
    case Command::block_status:
      return "extents";
  }
  return "unknown";
}

// The numbers are those of nbdkit: a full disk for what would be stored beyond the end.
NbdError check_range(const RequestHeader& header, std::uint64_t size) {
  bool inside = header.length > 0 && range_fits(header.offset, header.length, size);
  if (inside) return NbdError::none;
  bool stores = header.command == Command::write || header.command == Command::write_zeroes;
  return stores ? NbdError::no_space : NbdError::invalid;
}

}  // namespace

// Whether the command is there at all on this export.
bool Transmission::serves(Command command) const {
  const Properties& properties = device_.properties();
  // The kernel's driver never looks at what an export lacks beyond its first flags: queue limits of
  // an earlier user of the device stay, so requests come that were never announced.
  bool lenient = context_.kernel;
  switch (command) {
    case Command::read:
    case Command::write:
    case Command::write_zeroes:
      return true;
    case Command::flush:
      return properties.can_flush || lenient;
    case Command::trim:
      return properties.can_trim || lenient;
    case Command::cache:
      return properties.can_cache;
    case Command::block_status:
      return agreement_.base_allocation;
    default:
      return false;
  }
}

bool Transmission::flags_fit(const RequestHeader& header) const {
  const Properties& properties = device_.properties();
  if ((header.flags & ~flags_of(header.command)) != 0 && !context_.kernel) return false;
  if (has(header, command_flag::kFua) && !(properties.can_fua && can_write_)) return false;
  if (header.command == Command::read && has(header, command_flag::kDontFragment)) {
    return agreement_.structured_replies;
  }
  if (header.command == Command::write_zeroes && has(header, command_flag::kFastZero)) {
    return properties.can_fast_zero;
  }
  return true;
}

// When several things are wrong, the answer is the one that nbdkit gives.
NbdError Transmission::check(const RequestHeader& header) const {
  if (changes_data(header.command) && !can_write_) return NbdError::not_permitted;
  if (!serves(header.command)) return NbdError::invalid;
  if (header.command == Command::flush) {
    if (header.offset != 0 || header.length != 0) return NbdError::invalid;
  } else {
    NbdError error = check_range(header, device_.properties().size);
    if (error != NbdError::none) return error;
  }
  if (!flags_fit(header)) return NbdError::invalid;
  return payload_bytes(header) > kPayloadMax ? NbdError::no_memory : NbdError::none;
}

Transmission::Slot& Transmission::take_slot() {
  if (unused_.empty()) {
    slots_.push_back(std::make_unique<Slot>(context_.buffers(), context_.connection()));
    return *slots_.back();
  }
  Slot* slot = unused_.back();
  unused_.pop_back();
  return *slot;
}

void Transmission::retire(Slot& slot) {
  bytes_in_flight_ -= payload_bytes(slot.header);
  slot.reply.clear();
  slot.payload.reset();
  slot.extents.reset();
  unused_.push_back(&slot);
}

void Transmission::begin(const RequestHeader& header, std::optional<Payload> payload) {
  Slot& slot = take_slot();
  slot.header = header;
  slot.payload = std::move(payload);
  ++in_flight_;
  bytes_in_flight_ += payload_bytes(header);
  if (context_.log().verbose()) {
    context_.log().debug(who_, "{} count={} offset={} flags={:#x}", name(header.command),
                         header.length, header.offset, header.flags);
  }
  Task<void> task = dispatch(slot);
  if (task.done()) return complete(slot, task.take());
  // The payload may be in memory that the next receive overwrites. Without the few bytes for a copy
  // there is not enough memory for a coroutine either: then the process ends (async/task.h).
  if (slot.payload) NBDKIT_CHECK(slot.payload->pin().ok());
  finish(std::move(task),
         [this, &slot](Result<void> result) { complete(slot, std::move(result)); });
}

Task<void> Transmission::dispatch(Slot& slot) {
  const Properties& properties = device_.properties();
  Request request = to_request(slot.header);
  switch (slot.header.command) {
    case Command::read:
      return device_.pread(request, slot.reply);
    case Command::write:
      return device_.pwrite(request, *slot.payload);
    case Command::flush:
      return properties.can_flush ? device_.flush() : Result<void>();
    case Command::trim:
      return properties.can_trim ? device_.trim(request) : Result<void>();
    case Command::write_zeroes:
      return device_.zero(request);
    case Command::cache:
      return device_.cache(request);
    case Command::block_status:
      slot.extents.emplace(request.offset, properties.size);
      return device_.extents(request, *slot.extents);
    case Command::disconnect:
      break;
  }
  return Result<void>(std::errc::invalid_argument);
}

void Transmission::complete(Slot& slot, Result<void> result) {
  NBDKIT_CHECK(in_flight_ > 0);
  --in_flight_;
  progress_ = true;
  mark_dirty();
  if (result.ok() && slot.header.command == Command::read &&
      slot.reply.size() != slot.header.length) {
    result = Error(std::errc::io_error, fmt::format("a layer answered {} bytes to a read of {}",
                                                    slot.reply.size(), slot.header.length));
  }
  if (!result.ok() && !result.error().detail().empty()) {
    context_.log().error(who_, "{}: {}", name(slot.header.command), result.error().detail());
  }
  if (dead_) return retire(slot);
  answer(slot, result);
  if (!result.ok() || slot.header.command != Command::read) return retire(slot);
  sending_.push_back(&slot);
  if (outbox_.full()) flush();
}

void Transmission::answer(Slot& slot, const Result<void>& result) {
  const RequestHeader& header = slot.header;
  if (!result.ok()) {
    return answer_error(header, to_nbd_error(result.error().code, audience(header)));
  }
  if (header.command == Command::block_status) return answer_block_status(slot);
  if (header.command == Command::read && agreement_.structured_replies) return answer_read(slot);
  SimpleReplyWire wire;
  wire.error = 0;
  wire.cookie = header.cookie;
  outbox_.add(wire);
  outbox_.count_reply();
  if (header.command != Command::read) return;
  for (const Reply::Piece& piece : slot.reply.pieces()) outbox_.add(piece);
}

void Transmission::answer_error(const RequestHeader& header, NbdError error) {
  mark_dirty();
  outbox_.count_reply();
  bool must_be_chunk = header.command == Command::read || header.command == Command::block_status;
  if (!agreement_.structured_replies || !must_be_chunk) {
    SimpleReplyWire wire;
    wire.error = static_cast<std::uint32_t>(error);
    wire.cookie = header.cookie;
    return outbox_.add(wire);
  }
  ErrorChunkWire wire;
  wire.chunk.flags = kChunkDone;
  wire.chunk.type = ChunkType::error;
  wire.chunk.cookie = header.cookie;
  wire.chunk.length = static_cast<std::uint32_t>(sizeof wire - sizeof wire.chunk);
  wire.error = static_cast<std::uint32_t>(error);
  wire.text_length = 0;
  outbox_.add(wire);
}

// Every run of data and every hole is a chunk; a client that forbids fragments gets one of data.
void Transmission::answer_read(const Slot& slot) {
  const RequestHeader& header = slot.header;
  std::span<const Reply::Piece> pieces = slot.reply.pieces();
  bool whole = has(header, command_flag::kDontFragment);
  std::uint64_t offset = header.offset;
  outbox_.count_reply();
  for (std::size_t i = 0; i < pieces.size();) {
    std::size_t length = pieces[i].length;
    std::size_t next = i + 1;
    bool hole = pieces[i].data == nullptr && !whole;
    while (!hole && next < pieces.size() && (whole || pieces[next].data != nullptr)) {
      length += pieces[next++].length;
    }
    std::uint16_t flags = next == pieces.size() ? kChunkDone : std::uint16_t{0};
    if (hole) {
      OffsetHoleWire wire;
      wire.chunk.flags = flags;
      wire.chunk.type = ChunkType::offset_hole;
      wire.chunk.cookie = header.cookie;
      wire.chunk.length = static_cast<std::uint32_t>(sizeof wire - sizeof wire.chunk);
      wire.offset = offset;
      wire.length = static_cast<std::uint32_t>(length);
      outbox_.add(wire);
    } else {
      OffsetDataWire wire;
      wire.chunk.flags = flags;
      wire.chunk.type = ChunkType::offset_data;
      wire.chunk.cookie = header.cookie;
      wire.chunk.length = static_cast<std::uint32_t>(sizeof wire - sizeof wire.chunk + length);
      wire.offset = offset;
      outbox_.add(wire);
      for (std::size_t k = i; k < next; ++k) outbox_.add(pieces[k]);
    }
    offset += length;
    i = next;
  }
}

void Transmission::answer_block_status(const Slot& slot) {
  const RequestHeader& header = slot.header;
  std::span<const Extent> extents = slot.extents->list();
  bool one = has(header, command_flag::kReqOne);
  if (extents.empty()) {
    context_.log().error(who_, "extents: the answer does not reach the offset {}", header.offset);
    return answer_error(header, NbdError::invalid);
  }
  // What begins behind the request is nobody's business; with REQ_ONE neither is what ends there.
  std::uint64_t end = header.offset + header.length;
  std::size_t count = 0;
  while (count < extents.size() && extents[count].offset < end) ++count;
  if (one) count = 1;
  std::vector<StatusExtentWire> wires(count);
  for (std::size_t i = 0; i < count; ++i) {
    // Lengths have 32 bits here; the last multiple of every block size below 4 GiB.
    constexpr std::uint64_t kLengthMax =
        std::uint64_t{std::numeric_limits<std::uint32_t>::max()} - 65535;
    std::uint64_t length = extents[i].length;
    if (one) length = std::min<std::uint64_t>(length, header.length);
    bool cut = length > kLengthMax;
    wires[i].length = static_cast<std::uint32_t>(std::min(length, kLengthMax));
    wires[i].flags = static_cast<std::uint32_t>(extents[i].type);
    if (cut) {
      wires.resize(i + 1);
      break;
    }
  }
  BlockStatusWire wire;
  wire.chunk.flags = kChunkDone;
  wire.chunk.type = ChunkType::block_status;
  wire.chunk.cookie = header.cookie;
  std::span<const std::byte> body = std::as_bytes(std::span(wires));
  wire.chunk.length = static_cast<std::uint32_t>(sizeof wire.context + body.size());
  wire.context = kBaseAllocationId;
  outbox_.add(wire);
  outbox_.add_copy(body);
  outbox_.count_reply();
}

}  // namespace nbdkit
