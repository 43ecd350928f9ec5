// SPDX-License-Identifier: BSD-3-Clause
// The part of the engine that knows the commands: what is valid, and what the device is asked.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "base/log_topics.h"
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

bool changes_data(Command command) {
  return command == Command::write || command == Command::trim || command == Command::write_zeroes;
}

RequestFlags request_flags(const RequestHeader& header, bool writes_through) {
  RequestFlags flags = RequestFlags::none;
  if (changes_data(header.command) && (writes_through || has(header, command_flag::kFua))) {
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

LedgerRequest ledger_request(const RequestHeader& header) {
  return {static_cast<std::uint16_t>(header.command), header.offset, header.length};
}

RequestKind kind_of(Command command) {
  switch (command) {
    case Command::write:
      return RequestKind::write;
    case Command::flush:
      return RequestKind::flush;
    case Command::trim:
      return RequestKind::trim;
    case Command::write_zeroes:
      return RequestKind::zero;
    case Command::cache:
      return RequestKind::cache;
    case Command::block_status:
      return RequestKind::extents;
    default:
      return RequestKind::read;
  }
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
      return !agreement_.contexts.empty();
    default:
      return false;
  }
}

bool Transmission::flags_fit(const RequestHeader& header) const {
  const Properties& properties = device_.properties();
  std::uint16_t known = flags_of(header.command);
  if (agreement_.extended_headers) known |= command_flag::kPayloadLength;  // check() has seen it.
  if ((header.flags & ~known) != 0 && !context_.kernel) return false;
  if (has(header, command_flag::kFua) && !(properties.can_fua && can_write_)) return false;
  if (header.command == Command::read && has(header, command_flag::kDontFragment)) {
    return agreement_.structured_replies;
  }
  if (header.command == Command::write_zeroes && has(header, command_flag::kFastZero)) {
    return properties.can_fast_zero;
  }
  return true;
}

// The numbers are those of nbdkit: a full disk for what would be stored beyond the end. A client
// that can be told more gets what there is, and the error behind it.
Transmission::Refusal Transmission::check_range(const RequestHeader& header) const {
  std::uint64_t size = device_.properties().size;
  if (header.length > 0 && range_fits(header.offset, header.length, size)) return {};
  bool asks = header.command == Command::read || header.command == Command::block_status;
  bool begins = header.length > 0 && header.offset < size;
  if (asks && begins && agreement_.structured_replies) return {};
  bool stores = header.command == Command::write || header.command == Command::write_zeroes;
  return {stores ? NbdError::no_space : NbdError::invalid,
          header.length > 0 ? kBeyondTheEnd : "a request for no bytes"};
}

// Whoever has asked for the sizes is held to them. Who has not is served as far as the device can,
// as nbdkit serves it. The end of the export may lie inside a block.
Transmission::Refusal Transmission::check_block_size(const RequestHeader& header) const {
  const BlockSize& block = agreement_.block_size;
  if (!block.known()) return {};
  const bool to_the_end = header.length == device_.properties().size - header.offset;
  if (!is_aligned(header.offset, block.minimum) ||
      !(is_aligned(header.length, block.minimum) || to_the_end)) {
    return {NbdError::invalid, "not a multiple of the smallest block size"};
  }
  const bool has_data = header.command == Command::read || header.command == Command::write;
  if (has_data && header.length > block.maximum) {
    return {NbdError::invalid, "larger than the largest block size"};
  }
  return {};
}

std::uint64_t Transmission::served_length(const RequestHeader& header) const {
  if (header.command == Command::flush) return 0;
  return std::min(header.length, device_.properties().size - header.offset);
}

// When several things are wrong, the answer is the one that nbdkit gives.
Transmission::Refusal Transmission::check(const RequestHeader& header) const {
  if (header.command != Command::write && has_payload(header, agreement_.extended_headers)) {
    return {NbdError::invalid, "only a write has a payload"};
  }
  if (changes_data(header.command) && !can_write_) {
    return {NbdError::not_permitted, "the export is read-only"};
  }
  if (!serves(header.command)) return {NbdError::invalid, "no such command on this export"};
  if (header.command == Command::flush) {
    if (header.offset != 0 || header.length != 0) {
      return {NbdError::invalid, "a flush has no offset and no length"};
    }
  } else {
    Refusal refusal = check_range(header);
    if (refusal.error != NbdError::none) return refusal;
  }
  if (!flags_fit(header)) return {NbdError::invalid, "a flag that this command does not have"};
  bool has_data = header.command == Command::read || header.command == Command::write;
  if (has_data && header.length > kPayloadMax) {
    return {NbdError::no_memory, "more data than the server takes in one request"};
  }
  return header.command == Command::flush ? Refusal{} : check_block_size(header);
}

Transmission::Slot& Transmission::make_slot() {
  slots_.push_back(
      std::make_unique<Slot>(context_.buffers(), context_.connection(), slots_.size()));
  if (stocked_) slots_.back()->reply.reserve();
  return *slots_.back();
}

Transmission::Slot& Transmission::take_slot() {
  if (unused_.empty()) return make_slot();
  Slot* slot = unused_.back();
  unused_.pop_back();
  return *slot;
}

void Transmission::retire(Slot& slot) {
  const std::uint64_t bytes = payload_bytes(slot.header);
  bytes_in_flight_ -= bytes;
  if (in_stock(bytes)) context_.buffers().give_back(bytes);
  share_.shrink_to(bytes_held());
  slot.reply.clear();
  slot.payload.reset();
  slot.extents.reset();
  unused_.push_back(&slot);
}

void Transmission::begin(const RequestHeader& header, std::optional<Payload> payload) {
  Slot& slot = take_slot();
  slot.header = header;
  slot.served = served_length(header);
  slot.payload = std::move(payload);
  slot.began = context_.loop().now();
  ++in_flight_;
  const std::uint64_t bytes = payload_bytes(header);
  bytes_in_flight_ += bytes;
  if (in_stock(bytes)) context_.buffers().reserve(bytes);
  if (traces_data_path(context_.log())) {
    context_.log().debug(who_, "{}: {} count={} offset={} flags={:#x}",
                         std::string_view(who_).substr(0, who_.rfind('.')), name(header.command),
                         header.length, header.offset, header.flags);
  }
  if (ledger_ && !note(slot)) {
    return complete(
        slot, Error(std::errc::io_error, "the server has died of this request again and again"));
  }
  Task<void> task = dispatch(slot);
  if (task.done()) return complete(slot, task.take());
  // The payload may be in memory that the next receive overwrites. Without the few bytes for a copy
  // there is not enough memory for a coroutine either: then the process ends (async/task.h).
  if (slot.payload) NBDKIT_CHECK(slot.payload->pin().ok());
  finish(std::move(task),
         [this, &slot](Result<void> result) { complete(slot, std::move(result)); });
}

std::optional<LedgerMark> Transmission::mark_of(const RequestHeader& header) const {
  if (!ledger_) return std::nullopt;
  return context_.ledger->mark_of(ledger_request(header));
}

bool Transmission::may_change(const RequestHeader& header) const {
  return !ledger_ || !changes_data(header.command) || ledger_.is_free(ledger_request(header));
}

// False when it is to be refused.
bool Transmission::note(Slot& slot) {
  std::optional<LedgerMark> mark = mark_of(slot.header);
  if (mark == LedgerMark::refuse) return false;
  slot.alone = alone_ = mark == LedgerMark::alone;
  if (slot.number < RequestLedger::kRequestsMax) {
    ledger_.begin(slot.number, ledger_request(slot.header));
  }
  return true;
}

Task<void> Transmission::dispatch(Slot& slot) {
  const Properties& properties = device_.properties();
  Request request(Offset{slot.header.offset}, slot.served,
                  request_flags(slot.header, writes_through_));
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

void Transmission::count(Slot& slot, bool failed) {
  const Nanoseconds began = std::exchange(slot.began, Slot::kNotUnderWay);
  figures_.add(kind_of(slot.header.command), slot.served, failed, context_.loop().now() - began);
}

RequestFigures Transmission::figures() const {
  RequestFigures figures = figures_;
  figures.under_way = in_flight_;
  Nanoseconds first = Slot::kNotUnderWay;
  for (const auto& slot : slots_) first = std::min(first, slot->began);
  if (first != Slot::kNotUnderWay) figures.oldest = context_.loop().now() - first;
  return figures;
}

void Transmission::complete(Slot& slot, Result<void> result) {
  NBDKIT_CHECK(in_flight_ > 0);
  --in_flight_;
  if (ledger_ && slot.number < RequestLedger::kRequestsMax) ledger_.end(slot.number);
  if (std::exchange(slot.alone, false)) alone_ = false;
  progress_ = true;
  mark_dirty();
  if (result.ok() && slot.header.command == Command::read && slot.reply.size() != slot.served) {
    result = format_error(std::errc::io_error, "a layer answered {} bytes to a read of {}",
                          slot.reply.size(), slot.served);
  }
  if (!result.ok() && !result.error().detail().empty()) {
    context_.log().error(who_, "{}: {}", name(slot.header.command), result.error().detail());
  }
  count(slot, !result.ok());
  if (dead_) return retire(slot);
  answer(slot, result);
  if (!result.ok() || slot.header.command != Command::read) return retire(slot);
  sending_.push_back(&slot);
  if (outbox_.full()) flush();
}

}  // namespace nbdkit
