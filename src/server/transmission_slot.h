// SPDX-License-Identifier: BSD-3-Clause
// What the engine keeps for each request. Private to the Transmission's own files.
#pragma once

#include <optional>
#include <utility>

#include "server/transmission.h"

namespace nbdkit {

// A request from its header to the moment when its reply has been sent. Used again and again.
struct Transmission::Slot {
  Slot(BufferPool& pool, std::uint64_t owner) : reply(pool, owner) {}

  RequestHeader header{};
  Reply reply;
  std::optional<Payload> payload;
  std::optional<Extents> extents;
};

// A write whose payload has not arrived completely.
struct Transmission::Partial {
  Partial(const RequestHeader& request, Buffer memory)
      : header(request), buffer(std::move(memory)) {}

  std::span<std::byte> rest() const { return buffer.bytes().subspan(got); }
  bool complete() const { return got == buffer.bytes().size(); }

  RequestHeader header;
  Buffer buffer;
  std::size_t got = 0;
};

// The memory that a request may need for its data.
inline std::uint64_t payload_bytes(const RequestHeader& header) {
  bool has_data = header.command == Command::read || header.command == Command::write;
  return has_data ? header.length : 0;
}

}  // namespace nbdkit
