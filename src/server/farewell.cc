// SPDX-License-Identifier: BSD-3-Clause
#include "server/farewell.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <string_view>
#include <vector>

#include "proto/errors.h"
#include "proto/transmission.h"

namespace nbdkit {
namespace {

constexpr std::size_t kPieceMax = 64 * 1024;

using Bytes = std::vector<std::byte>;

template <typename Wire>
void append(Bytes& out, const Wire& wire) {
  auto bytes = std::as_bytes(std::span(&wire, 1));
  out.insert(out.end(), bytes.begin(), bytes.end());
}

void append_text(Bytes& out, std::string_view text) {
  auto bytes = std::as_bytes(std::span(text));
  out.insert(out.end(), bytes.begin(), bytes.end());
}

// What there is, up to `max` bytes more. False when there is nothing.
bool receive(ByteStream& stream, Bytes& into, std::size_t max) {
  const std::size_t before = into.size();
  into.resize(before + std::min(max, kPieceMax));
  iovec piece{into.data() + before, into.size() - before};
  Result<std::size_t> got = stream.receive(std::span(&piece, 1));
  into.resize(before + (got.ok() ? got.value() : 0));
  return into.size() > before;
}

void send(ByteStream& stream, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    iovec piece{const_cast<std::byte*>(bytes.data()), bytes.size()};
    Result<std::size_t> sent = stream.send(std::span(&piece, 1));
    if (!sent.ok() || sent.value() == 0) return;
    bytes = bytes.subspan(sent.value());
  }
}

void append_refusal(Bytes& out, const Agreement& agreement, const RequestHeader& request) {
  const auto code = static_cast<std::uint32_t>(NbdError::shutdown);
  if (!agreement.structured_replies) {
    SimpleReplyWire reply;
    reply.error = code;
    reply.cookie = request.cookie;
    return append(out, reply);
  }
  auto fill = [&](auto chunk) {
    chunk.flags = kChunkDone;
    chunk.type = ChunkType::error;
    chunk.cookie = request.cookie;
    chunk.length = static_cast<std::uint32_t>(sizeof(ErrorWire) + kEnding.size());
    return chunk;
  };
  if (agreement.extended_headers) {
    ExtendedChunkWire chunk = fill(ExtendedChunkWire());
    chunk.offset = request.offset;
    append(out, chunk);
  } else {
    append(out, fill(ChunkWire()));
  }
  ErrorWire error;
  error.error = code;
  error.text_length = static_cast<std::uint16_t>(kEnding.size());
  append(out, error);
  append_text(out, kEnding);
}

// A request at the beginning of `bytes`, and how long it is with its payload.
struct Parsed {
  RequestHeader header;
  std::size_t header_size;
  std::uint64_t payload;
};

std::optional<Parsed> parse(std::span<const std::byte> bytes, bool extended) {
  const std::size_t size = extended ? sizeof(ExtendedRequestWire) : sizeof(RequestWire);
  if (bytes.size() < size) return std::nullopt;
  std::optional<RequestHeader> header =
      extended ? parse_extended_request(bytes.first<sizeof(ExtendedRequestWire)>())
               : parse_request(bytes.first<sizeof(RequestWire)>());
  if (!header) return std::nullopt;
  return Parsed{*header, size, has_payload(*header, extended) ? header->length : 0};
}

}  // namespace

void refuse_requests(ByteStream& stream, const Agreement& agreement,
                     std::span<const std::byte> unread) {
  Bytes got(unread.begin(), unread.end());
  while (got.size() < kFarewellBytesMax && receive(stream, got, kFarewellBytesMax - got.size())) {
  }
  Bytes out;
  std::span<const std::byte> rest(got);
  while (std::optional<Parsed> request = parse(rest, agreement.extended_headers)) {
    if (request->header.command == Command::disconnect) break;
    append_refusal(out, agreement, request->header);
    rest = rest.subspan(request->header_size);
    if (request->payload > rest.size()) break;
    rest = rest.subspan(static_cast<std::size_t>(request->payload));
  }
  send(stream, out);
}

}  // namespace nbdkit
