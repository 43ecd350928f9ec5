// SPDX-License-Identifier: BSD-3-Clause
#include "client/reply_reader.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "base/check.h"
#include "base/range.h"
#include "client/words.h"
#include "proto/errors.h"

namespace nbdkit {
namespace {

Error violation(std::string text) { return Error(std::errc::protocol_error, std::move(text)); }

template <typename Wire>
Wire wire_of(std::span<const std::byte> packet) {
  Wire wire;
  std::memcpy(&wire, packet.data(), sizeof wire);
  return wire;
}

}  // namespace

Result<void> ReplyReader::take(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    if (!destination_.empty()) {
      std::size_t length = std::min(bytes.size(), destination_.size());
      std::memcpy(destination_.data(), bytes.data(), length);
      bytes = bytes.subspan(length);
      NBDKIT_TRY(filled(length));
      continue;
    }
    if (step_ == Step::error_text) {
      std::size_t length = std::min(bytes.size(), wanted_);
      std::size_t kept = std::min(length, kWordsMax - std::min(text_.size(), kWordsMax));
      text_.append(reinterpret_cast<const char*>(bytes.data()), kept);
      bytes = bytes.subspan(length);
      wanted_ -= length;
      if (wanted_ == 0) NBDKIT_TRY(on_error_end());
      continue;
    }
    if (stashed_ == 0 && bytes.size() >= wanted_) {
      std::size_t length = wanted_;
      NBDKIT_TRY(step(bytes.first(length)));
      if (!std::exchange(keep_, false)) bytes = bytes.subspan(length);
      continue;
    }
    std::size_t length = std::min(bytes.size(), wanted_ - stashed_);
    std::memcpy(stash_.data() + stashed_, bytes.data(), length);
    stashed_ += length;
    bytes = bytes.subspan(length);
    if (stashed_ < wanted_) return {};
    NBDKIT_TRY(step(Packet(stash_).first(stashed_)));
    if (!std::exchange(keep_, false)) stashed_ = 0;
  }
  return {};
}

Result<void> ReplyReader::filled(std::size_t length) {
  NBDKIT_CHECK(length <= destination_.size());
  destination_ = destination_.subspan(length);
  if (!destination_.empty()) return {};
  if (step_ == Step::simple) {
    end_answer();
  } else {
    end_chunk();
  }
  return {};
}

Result<void> ReplyReader::step(Packet packet) {
  switch (step_) {
    case Step::magic:
      return on_magic(packet);
    case Step::simple:
      return on_simple(packet);
    case Step::chunk:
      return on_chunk(packet);
    case Step::data_offset:
      return on_data_offset(packet);
    case Step::hole:
      return on_hole(packet);
    case Step::status_head:
      return on_status_head(packet);
    case Step::extent:
      return on_extent(packet);
    case Step::error_head:
      return on_error_head(packet);
    case Step::error_offset:
      return on_error_offset(packet);
    case Step::error_text:
      break;  // take() has done it.
  }
  return {};
}

void ReplyReader::expect(Step step, std::size_t bytes) {
  step_ = step;
  wanted_ = bytes;
}

Result<void> ReplyReader::on_magic(Packet packet) {
  std::uint32_t magic = wire_of<Be<std::uint32_t>>(packet).get();
  keep_ = true;
  if (agreement_.extended_headers) {
    if (magic != kExtendedChunkMagic) return violation("it sent something that is no chunk");
    expect(Step::chunk, sizeof(ExtendedChunkWire));
  } else if (magic == kSimpleReplyMagic) {
    expect(Step::simple, sizeof(SimpleReplyWire));
  } else if (magic == kChunkMagic && agreement_.structured_replies) {
    expect(Step::chunk, sizeof(ChunkWire));
  } else {
    return violation("it sent something that is no answer");
  }
  return {};
}

Result<void> ReplyReader::find(Cookie cookie) {
  reply_ = requests_.find(cookie);
  if (reply_ == nullptr) return violation("it answers a request that it was not asked");
  return {};
}

Result<void> ReplyReader::on_simple(Packet packet) {
  auto wire = wire_of<SimpleReplyWire>(packet);
  NBDKIT_TRY(find(wire.cookie.get()));
  if (reply_->in_chunks) return violation("it changes the form of an answer half-way");
  Command command = reply_->header.command;
  if (wire.error.get() != 0) {
    reply_->error.emplace(from_nbd_error(wire.error.get()), std::string());
  } else if (command == Command::block_status) {
    return violation("it answers a question about extents without any");
  } else if (command == Command::read) {
    if (agreement_.structured_replies) return violation("its data is not in chunks");
    destination_ = reply_->into;
    return {};
  }
  end_answer();
  return {};
}

Result<void> ReplyReader::on_chunk(Packet packet) {
  chunk_ = agreement_.extended_headers
               ? parse_extended_chunk(packet.first<sizeof(ExtendedChunkWire)>())
               : parse_chunk(packet.first<sizeof(ChunkWire)>());
  NBDKIT_TRY(find(chunk_.cookie));
  reply_->in_chunks = true;
  left_ = chunk_.length;
  if ((static_cast<std::uint16_t>(chunk_.type) & kErrorChunk) != 0) {
    if (left_ < sizeof(ErrorWire) || left_ > kErrorBodyMax) {
      return violation("its chunk about an error has a wrong length");
    }
    expect(Step::error_head, sizeof(ErrorWire));
    return {};
  }
  return begin_body(chunk_);
}

// Which chunks may answer which request, and how long they may be.
Result<void> ReplyReader::begin_body(const ChunkHeader& header) {
  const bool is_read = reply_->header.command == Command::read;
  const bool is_status = reply_->header.command == Command::block_status;
  const bool extended = agreement_.extended_headers;
  switch (header.type) {
    case ChunkType::none:
      if (left_ != 0 || (header.flags & kChunkDone) == 0) {
        return violation("its empty chunk is none, or not the last");
      }
      end_chunk();
      return {};
    case ChunkType::offset_data:
      if (!is_read || left_ <= sizeof(OffsetWire)) return violation("it sent data for nothing");
      expect(Step::data_offset, sizeof(OffsetWire));
      return {};
    case ChunkType::offset_hole:
      if (!is_read || left_ != sizeof(HoleWire)) return violation("it sent a hole for nothing");
      expect(Step::hole, sizeof(HoleWire));
      return {};
    case ChunkType::block_status:
    case ChunkType::block_status_extended: {
      std::size_t head = extended ? sizeof(ExtendedStatusWire) : sizeof(StatusWire);
      std::size_t each = extended ? sizeof(ExtendedStatusExtentWire) : sizeof(StatusExtentWire);
      bool fits = extended == (header.type == ChunkType::block_status_extended) && is_status &&
                  left_ >= head + each && (left_ - head) % each == 0 &&
                  (left_ - head) / each <= kExtentsMax;
      if (!fits) return violation("it sent extents for nothing, or too many");
      expect(Step::status_head, head);
      return {};
    }
    default:
      return violation("it sent a chunk of an unknown kind");
  }
}

// The range must lie in the request, and not have been answered before.
Result<void> ReplyReader::cover(std::uint64_t offset, std::uint64_t length) {
  const RequestHeader& asked = reply_->header;
  if (length == 0 || offset < asked.offset ||
      !range_fits(offset - asked.offset, length, asked.length)) {
    return violation("it sent data beyond what it was asked for");
  }
  std::uint64_t from = offset - asked.offset;
  if (!reply_->coverage.add(from, from + length)) {
    return violation("it sent the same data twice, or in too many pieces");
  }
  return {};
}

Result<void> ReplyReader::on_data_offset(Packet packet) {
  std::uint64_t offset = wire_of<OffsetWire>(packet).get();
  std::uint64_t length = left_ - sizeof(OffsetWire);
  NBDKIT_TRY(cover(offset, length));
  destination_ = reply_->into.subspan(static_cast<std::size_t>(offset - reply_->header.offset),
                                      static_cast<std::size_t>(length));
  return {};
}

Result<void> ReplyReader::on_hole(Packet packet) {
  auto wire = wire_of<HoleWire>(packet);
  NBDKIT_TRY(cover(wire.offset.get(), wire.length.get()));
  std::memset(reply_->into.data() + (wire.offset.get() - reply_->header.offset), 0,
              wire.length.get());
  end_chunk();
  return {};
}

Result<void> ReplyReader::on_status_head(Packet packet) {
  std::uint64_t count = 0;
  std::uint32_t context = 0;
  if (agreement_.extended_headers) {
    auto wire = wire_of<ExtendedStatusWire>(packet);
    context = wire.context.get();
    count = wire.count.get();
    left_ -= sizeof wire;
    if (count != left_ / sizeof(ExtendedStatusExtentWire)) {
      return violation("it sent another number of extents than it says");
    }
    expect(Step::extent, sizeof(ExtendedStatusExtentWire));
  } else {
    context = wire_of<StatusWire>(packet).context.get();
    left_ -= sizeof(StatusWire);
    expect(Step::extent, sizeof(StatusExtentWire));
  }
  if (context != agreement_.base_allocation) {
    return violation("it tells about metadata that it was not asked for");
  }
  if (!reply_->extents->empty()) return violation("it sent extents twice");
  status_end_ = reply_->header.offset;
  return {};
}

Result<void> ReplyReader::on_extent(Packet packet) {
  constexpr std::uint32_t kKnownFlags = 3;  // hole, zero
  StatusExtent extent{};
  if (agreement_.extended_headers) {
    auto wire = wire_of<ExtendedStatusExtentWire>(packet);
    extent = {wire.length.get(), static_cast<std::uint32_t>(wire.flags.get() & kKnownFlags)};
  } else {
    auto wire = wire_of<StatusExtentWire>(packet);
    extent = {wire.length.get(), wire.flags.get() & kKnownFlags};
  }
  if (extent.length == 0) return violation("it sent an empty extent");
  if (extent.length > std::numeric_limits<std::uint64_t>::max() - status_end_) {
    return violation("its extents have no end");
  }
  // The last one may go beyond the request, and beyond the export it says nothing.
  std::uint64_t room = agreement_.size - std::min(agreement_.size, status_end_);
  status_end_ += extent.length;
  extent.length = std::min(extent.length, room);
  if (extent.length > 0) reply_->extents->push_back(extent);
  left_ -= packet.size();
  if (left_ == 0) end_chunk();
  return {};
}

Result<void> ReplyReader::on_error_head(Packet packet) {
  auto wire = wire_of<ErrorWire>(packet);
  left_ -= sizeof wire;
  error_ = wire.error.get();
  std::uint64_t text_length = wire.text_length.get();
  bool with_offset = chunk_.type == ChunkType::error_offset;
  bool known = with_offset || chunk_.type == ChunkType::error;
  std::uint64_t behind = with_offset ? sizeof(OffsetWire) : 0;
  if (error_ == 0) return violation("it reports an error that is none");
  if (text_length > left_ || (known && left_ != text_length + behind)) {
    return violation("its chunk about an error has a wrong length");
  }
  text_.clear();
  // What an unknown kind has behind the text is read along with it, and kept if there is room.
  left_ = behind;
  expect(Step::error_text, static_cast<std::size_t>(chunk_.length - sizeof wire - behind));
  if (wanted_ == 0) return on_error_end();
  return {};
}

// The text is complete.
Result<void> ReplyReader::on_error_end() {
  if (!reply_->error) reply_->error.emplace(from_nbd_error(error_), printable(text_));
  if (left_ > 0) {
    expect(Step::error_offset, sizeof(OffsetWire));
  } else {
    end_chunk();
  }
  return {};
}

Result<void> ReplyReader::on_error_offset(Packet packet) {
  std::uint64_t offset = wire_of<OffsetWire>(packet).get();
  const RequestHeader& asked = reply_->header;
  if (offset < asked.offset || offset - asked.offset > asked.length) {
    return violation("its error is not where it was asked");
  }
  end_chunk();
  return {};
}

void ReplyReader::end_chunk() {
  if ((chunk_.flags & kChunkDone) != 0) return end_answer();
  reply_ = nullptr;
  expect(Step::magic, sizeof(std::uint32_t));
}

void ReplyReader::end_answer() {
  PendingReply& reply = *std::exchange(reply_, nullptr);
  expect(Step::magic, sizeof(std::uint32_t));
  if (!reply.error && reply.in_chunks) {
    const RequestHeader& asked = reply.header;
    bool whole = asked.command == Command::read           ? reply.coverage.complete(asked.length)
                 : asked.command == Command::block_status ? !reply.extents->empty()
                                                          : true;
    if (!whole) reply.error.emplace(std::errc::io_error, "the server has left a part out");
  }
  requests_.answered(reply);
}

}  // namespace nbdkit
