// SPDX-License-Identifier: BSD-3-Clause
// ReplyReader: makes answers of the bytes that a server sends in the transmission phase. No I/O.
//
// Whatever the server sends, nothing is written but what the request it answers has room for, and
// an answer that is given out is complete.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "client/agreement.h"
#include "client/coverage.h"
#include "proto/transmission.h"

namespace nbdkit {

// A part of an export that is of one kind: the bits of base:allocation.
struct StatusExtent {
  std::uint64_t length;
  std::uint32_t flags;
  bool operator==(const StatusExtent&) const = default;
};

// A request that has been sent, and what has been answered so far.
struct PendingReply {
  RequestHeader header{};
  std::span<std::byte> into{};                   // read: header.length bytes
  std::vector<StatusExtent>* extents = nullptr;  // block_status: from header.offset on

  std::optional<Error> error;  // the first one that the server reported
  Coverage coverage;
  bool in_chunks = false;
};

class ReplyReader {
 public:
  static constexpr std::size_t kExtentsMax = 1 << 20;        // in one answer
  static constexpr std::uint64_t kErrorBodyMax = 64 * 1024;  // bytes of a chunk about an error
  static constexpr std::size_t kStashMax = sizeof(ExtendedChunkWire);

  // Who knows which requests are under way.
  class Requests {
   public:
    // nullptr: none that is waiting for an answer.
    virtual PendingReply* find(Cookie cookie) = 0;
    // The answer is complete: `reply` is not touched again.
    virtual void answered(PendingReply& reply) = 0;

   protected:
    ~Requests() = default;
  };

  // Both outlive it.
  ReplyReader(Requests& requests, const ClientAgreement& agreement)
      : requests_(requests), agreement_(agreement) {}

  // Takes everything. protocol_error: nothing that follows can be understood any more.
  Result<void> take(std::span<const std::byte> bytes);
  // Where the next bytes of the stream belong; empty when they are for take(). Who receives
  // straight into it says so with filled().
  std::span<std::byte> destination() const { return destination_; }
  Result<void> filled(std::size_t length);

 private:
  using Packet = std::span<const std::byte>;
  enum class Step {
    magic,  // of the next header
    simple,
    chunk,
    data_offset,
    hole,
    status_head,
    extent,
    error_head,
    error_text,
    error_offset,
  };

  Result<void> step(Packet packet);
  void expect(Step step, std::size_t bytes);
  Result<void> on_magic(Packet packet);
  Result<void> on_simple(Packet packet);
  Result<void> on_chunk(Packet packet);
  Result<void> begin_body(const ChunkHeader& header);
  Result<void> on_data_offset(Packet packet);
  Result<void> on_hole(Packet packet);
  Result<void> on_status_head(Packet packet);
  Result<void> on_extent(Packet packet);
  Result<void> on_error_head(Packet packet);
  Result<void> on_error_end();
  Result<void> on_error_offset(Packet packet);
  Result<void> cover(std::uint64_t offset, std::uint64_t length);
  Result<void> find(Cookie cookie);
  void end_chunk();
  void end_answer();

  Requests& requests_;
  const ClientAgreement& agreement_;

  Step step_ = Step::magic;
  std::size_t wanted_ = sizeof(std::uint32_t);
  bool keep_ = false;  // the packet was looked at, but belongs to the next step as well
  std::array<std::byte, kStashMax> stash_;
  std::size_t stashed_ = 0;

  PendingReply* reply_ = nullptr;  // whose answer is being read
  ChunkHeader chunk_{};
  std::uint64_t left_ = 0;            // bytes of the chunk that are still to come
  std::span<std::byte> destination_;  // the rest of a piece of data
  std::uint64_t status_end_ = 0;      // behind the last extent, from the start of the export
  std::uint32_t error_ = 0;
  std::string text_;
};

}  // namespace nbdkit
