// SPDX-License-Identifier: BSD-3-Clause
// What the client of random traffic thinks of the answers.
#include <cstring>

#include "server/traffic_test.h"

namespace nbdkit::traffic {
namespace {

template <typename T>
T number(std::string_view bytes, std::size_t at) {
  Be<T> wire;
  std::memcpy(&wire, bytes.data() + at, sizeof wire);
  return wire.get();
}

}  // namespace

void Client::expect(bool right, const char* what) {
  if (!right && complaint_.empty()) complaint_ = what;
}

Client::Asked* Client::find(std::uint64_t cookie) {
  bool known = cookie < asked_.size() && !asked_[cookie].answered;
  expect(known, "an answer to what was not asked, or has been answered");
  return known ? &asked_[cookie] : nullptr;
}

void Client::finish(Asked& asked) {
  asked.answered = true;
  ++answered_;
}

std::size_t Client::take(std::string_view in) {
  if (in.size() < sizeof(SimpleReplyWire) || !complaint_.empty()) return 0;
  std::uint32_t magic = number<std::uint32_t>(in, 0);
  if (magic == kSimpleReplyMagic) return take_simple(in);
  expect(magic == (agreement_.extended_headers ? kExtendedChunkMagic : kChunkMagic),
         "a bad magic number");
  return complaint_.empty() ? take_chunk(in) : 0;
}

std::size_t Client::take_simple(std::string_view in) {
  Asked* asked = find(number<std::uint64_t>(in, 8));
  if (asked == nullptr) return 0;
  const RequestHeader& header = asked->header;
  bool read = header.command == Command::read;
  bool must_be_chunk = read || header.command == Command::block_status;
  expect(!must_be_chunk || !agreement_.structured_replies, "no chunk where there must be one");
  expect(!agreement_.extended_headers, "a simple reply with extended headers");
  std::uint32_t error = number<std::uint32_t>(in, 4);
  std::size_t length = sizeof(SimpleReplyWire) + (read && error == 0 ? header.length : 0);
  if (in.size() < length) return 0;
  expect(error == asked->error, "a wrong error");
  if (read && error == 0) check_data(*asked, header.offset, in.substr(16, header.length));
  finish(*asked);
  return length;
}

std::size_t Client::take_chunk(std::string_view in) {
  bool extended = agreement_.extended_headers;
  std::size_t head = extended ? sizeof(ExtendedChunkWire) : sizeof(ChunkWire);
  if (in.size() < head) return 0;
  std::uint64_t body = extended ? number<std::uint64_t>(in, 24) : number<std::uint32_t>(in, 16);
  if (in.size() - head < body) return 0;
  Asked* asked = find(number<std::uint64_t>(in, 8));
  if (asked == nullptr) return 0;
  const RequestHeader& header = asked->header;
  expect(!extended || number<std::uint64_t>(in, 16) == header.offset, "another offset");
  ChunkType type = number<ChunkType>(in, 6);
  check_chunk(*asked, type, in.substr(head, body));
  ++asked->chunks;
  std::size_t length = head + body;
  if ((number<std::uint16_t>(in, 4) & kChunkDone) == 0) return length;
  bool whole = asked->next == header.offset + asked->there;
  bool data = header.command == Command::read && (asked->error == 0 || asked->partial);
  expect(!data || whole, "a read is not whole");
  bool status = header.command == Command::block_status && (asked->error == 0 || asked->partial);
  expect(!status || asked->contexts.empty(), "a metadata context is missing");
  expect(!asked->partial || type == ChunkType::error_offset, "an end that is not told");
  bool fragments = (header.flags & command_flag::kDontFragment) == 0;
  expect(fragments || asked->chunks == (asked->partial ? 2u : 1u),
         "fragments where there must be none");
  finish(*asked);
  return length;
}

void Client::check_chunk(Asked& asked, ChunkType type, std::string_view body) {
  expect(agreement_.structured_replies, "a chunk where there must be none");
  if (type == ChunkType::error || type == ChunkType::error_offset) {
    return check_error(asked, type, body);
  }
  expect(asked.error == 0 || asked.partial, "no error where there must be one");
  if (type == ChunkType::none) {
    expect(agreement_.extended_headers && body.empty(), "an empty chunk that is not empty");
    bool asks =
        asked.header.command == Command::read || asked.header.command == Command::block_status;
    expect(!asks, "nothing where something must be");
  } else if (type == ChunkType::offset_data) {
    expect(body.size() > 8, "no data");
    if (body.size() > 8) check_data(asked, number<std::uint64_t>(body, 0), body.substr(8));
  } else if (type == ChunkType::offset_hole) {
    expect(body.size() == 12, "a hole of a wrong size");
    if (body.size() == 12) {
      check_hole(asked, number<std::uint64_t>(body, 0), number<std::uint32_t>(body, 8));
    }
  } else {
    expect(type == (agreement_.extended_headers ? ChunkType::block_status_extended
                                                : ChunkType::block_status),
           "an unknown chunk");
    check_status(asked, body);
  }
}

void Client::check_error(Asked& asked, ChunkType type, std::string_view body) {
  expect(asked.partial == (type == ChunkType::error_offset), "another kind of error");
  std::size_t offset = asked.partial ? 8 : 0;
  bool sized = body.size() >= 6 && body.size() == 6u + number<std::uint16_t>(body, 4) + offset;
  expect(sized, "an error of a wrong size");
  if (!sized) return;
  expect(number<std::uint32_t>(body, 0) == asked.error, "a wrong error");
  expect(offset == 0 || number<std::uint64_t>(body, body.size() - 8) == kDiskSize,
         "an error elsewhere");
}

void Client::check_data(Asked& asked, std::uint64_t offset, std::string_view data) {
  expect(asked.header.command == Command::read, "data that was not asked for");
  expect(offset == asked.next, "data from elsewhere");
  for (std::size_t i = 0; i < data.size() && complaint_.empty(); ++i) {
    expect(data[i] == disk()[offset + i], "wrong data");
  }
  asked.next = offset + data.size();
}

void Client::check_hole(Asked& asked, std::uint64_t offset, std::uint64_t length) {
  expect(offset == asked.next && length > 0, "a hole that is elsewhere");
  expect((asked.header.flags & command_flag::kDontFragment) == 0, "a hole that is not allowed");
  for (std::uint64_t i = 0; i < length && complaint_.empty(); ++i) {
    expect(disk()[offset + i] == '\0', "a hole where there is data");
  }
  asked.next = offset + length;
}

void Client::check_status(Asked& asked, std::string_view body) {
  const RequestHeader& header = asked.header;
  bool extended = agreement_.extended_headers;
  std::size_t head = extended ? 8 : 4;
  std::size_t each = extended ? 16 : 8;
  bool sized = body.size() > head && (body.size() - head) % each == 0;
  expect(header.command == Command::block_status && sized, "no block status");
  if (!complaint_.empty()) return;
  std::size_t count = (body.size() - head) / each;
  const bool depth = asked.contexts.has(kAllocationDepth) && !asked.contexts.has(kBaseAllocation);
  const MetaContext& context = depth ? kAllocationDepth : kBaseAllocation;
  const std::uint32_t hole = depth ? 0 : 3;
  const std::uint32_t data = depth ? 1 : 0;
  expect(asked.contexts.has(context) && number<std::uint32_t>(body, 0) == context.id,
         "the status of something else");
  asked.contexts.remove(context);
  expect(!extended || number<std::uint32_t>(body, 4) == count, "another number of extents");
  bool one = (header.flags & command_flag::kReqOne) != 0;
  expect(!one || count == 1, "more than one extent");
  std::uint64_t end = header.offset + asked.there;
  std::uint64_t at = header.offset;
  for (std::size_t i = head; i < body.size(); i += each) {
    std::uint64_t length =
        extended ? number<std::uint64_t>(body, i) : number<std::uint32_t>(body, i);
    std::uint64_t status =
        extended ? number<std::uint64_t>(body, i + 8) : number<std::uint32_t>(body, i + 4);
    expect(length > 0 && at < end, "an extent beyond the request");
    expect(status == (is_hole(at) ? hole : data), "a wrong status");
    at += length;
  }
  expect(at <= kDiskSize && (one || at >= end), "extents are missing");
  expect(!one || at <= end, "an extent longer than the request");
}

}  // namespace nbdkit::traffic
