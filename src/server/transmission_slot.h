// SPDX-License-Identifier: BSD-3-Clause
// What the engine keeps for each request. Private to the Transmission's own files.
#pragma once

#include <optional>
#include <utility>

#include "server/export_info.h"
#include "server/transmission.h"

namespace nbdkit {

// A request from its header to the moment when its reply has been sent. Used again and again.
struct Transmission::Slot {
  static constexpr Nanoseconds kNotUnderWay = Nanoseconds::max();

  Slot(BufferPool& pool, std::uint64_t owner, std::size_t place)
      : number(place), reply(pool, owner) {}

  const std::size_t number;  // in the ledger
  bool alone = false;
  Nanoseconds began = kNotUnderWay;
  RequestHeader header{};
  std::uint64_t served = 0;  // how much of the range there is, in bytes
  Reply reply;
  std::optional<Payload> payload;
  std::optional<Extents> extents;
};

// A write whose payload has not arrived completely.
struct Transmission::Partial {
  // `reserved_from`: where the buffer has been reserved, or null.
  Partial(const RequestHeader& request, Buffer memory, BufferPool* reserved_from)
      : header(request), buffer(std::move(memory)), reserved(reserved_from) {
    if (reserved != nullptr) reserved->reserve(header.length);
  }
  Partial(const Partial&) = delete;
  Partial& operator=(const Partial&) = delete;
  ~Partial() {
    if (reserved != nullptr) reserved->give_back(header.length);
  }

  std::span<std::byte> rest() const { return buffer.bytes().subspan(got); }
  bool complete() const { return got == buffer.bytes().size(); }

  static void* operator new(std::size_t size) { return frame_pool_get(size); }
  static void operator delete(void* memory, std::size_t size) { frame_pool_put(memory, size); }

  const RequestHeader header;
  Buffer buffer;
  BufferPool* const reserved;
  std::size_t got = 0;
};

// The memory that a request may need for its data: none for what is too large to be served.
inline std::uint64_t payload_bytes(const RequestHeader& header) {
  bool has_data = header.command == Command::read || header.command == Command::write;
  return has_data && header.length <= kPayloadMax ? header.length : 0;
}

inline bool has(const RequestHeader& header, std::uint16_t flag) {
  return (header.flags & flag) != 0;
}

inline constexpr std::string_view kBeyondTheEnd = "the range goes beyond the end of the export";

}  // namespace nbdkit
