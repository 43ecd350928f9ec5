// SPDX-License-Identifier: BSD-3-Clause
// What a client makes of the answers of a server that it does not know. The first byte of the input
// says which form was agreed upon: 0 simple replies, 1 structured ones, 2 extended headers. With 4
// the stream comes in small pieces, with 8 data is received straight into its place. The rest is
// what the server sends. Cookies 1 to 8 are two requests each of the kinds that have answers of
// their own.
#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "base/check.h"
#include "client/reply_reader.h"

namespace nbdkit {
namespace {

enum Flags : unsigned { kStructured = 1, kExtended = 2, kSmallPieces = 4, kStraight = 8 };

constexpr std::uint64_t kOffset = 512;
constexpr std::size_t kLength = 256;
constexpr std::size_t kRequests = 8;
constexpr std::byte kUntouched{0x55};

class Requests final : public ReplyReader::Requests {
 public:
  Requests() {
    for (std::size_t i = 0; i < kRequests; ++i) {
      constexpr std::array kCommands{Command::read, Command::block_status, Command::write,
                                     Command::flush};
      One& one = all_[i];
      one.memory.assign(kLength, kUntouched);  // Its own piece, so that the sanitizer sees its end.
      one.reply.header = {kCommands[i / 2], 0, Cookie{i + 1}, kOffset, kLength};
      if (one.reply.header.command == Command::read) one.reply.into = one.memory;
      if (one.reply.header.command == Command::block_status) one.reply.extents = &one.extents;
    }
  }

  PendingReply* find(Cookie cookie) override {
    auto n = static_cast<std::uint64_t>(cookie);
    if (n == 0 || n > kRequests || all_[n - 1].answered) return nullptr;
    return &all_[n - 1].reply;
  }

  // An answer that is given out is a whole one.
  void answered(PendingReply& reply) override {
    One& one = all_[static_cast<std::uint64_t>(reply.header.cookie) - 1];
    NBDKIT_CHECK(!one.answered && &one.reply == &reply);
    one.answered = true;
    if (reply.error) return;
    if (reply.header.command == Command::read && reply.in_chunks) {
      NBDKIT_CHECK(reply.coverage.complete(kLength));
    }
    if (reply.header.command != Command::block_status) return;
    NBDKIT_CHECK(!one.extents.empty());
    std::uint64_t end = kOffset;
    for (const StatusExtent& extent : one.extents) {
      NBDKIT_CHECK(extent.length > 0 && extent.flags <= 3);
      end += extent.length;
    }
    NBDKIT_CHECK(end <= kSize);
  }

  static constexpr std::uint64_t kSize = 4096;

 private:
  struct One {
    PendingReply reply;
    std::vector<std::byte> memory;
    std::vector<StatusExtent> extents;
    bool answered = false;
  };
  std::array<One, kRequests> all_;
};

// As a connection does it: what belongs somewhere goes straight there, the rest is to be read.
Result<void> receive(ReplyReader& reader, std::span<const std::byte> bytes, bool straight) {
  while (!bytes.empty()) {
    std::span<std::byte> place = reader.destination();
    if (!straight || place.empty()) return reader.take(bytes);
    std::size_t length = std::min(place.size(), bytes.size());
    std::memcpy(place.data(), bytes.data(), length);
    bytes = bytes.subspan(length);
    NBDKIT_TRY(reader.filled(length));
  }
  return {};
}

void check(std::span<const std::uint8_t> input) {
  if (input.empty()) return;
  const unsigned flags = input[0];
  ClientAgreement agreement;
  agreement.size = Requests::kSize;
  agreement.extended_headers = (flags & kExtended) != 0;
  agreement.structured_replies = agreement.extended_headers || (flags & kStructured) != 0;
  agreement.base_allocation = 1;
  Requests requests;
  ReplyReader reader(requests, agreement);
  std::span<const std::byte> bytes = std::as_bytes(input.subspan(1));
  const std::size_t piece =
      (flags & kSmallPieces) != 0 ? 5 : std::max<std::size_t>(bytes.size(), 1);
  while (!bytes.empty()) {
    std::size_t length = std::min(piece, bytes.size());
    // A piece of its own, so that the sanitizer sees its end.
    std::vector<std::byte> arrived(bytes.begin(),
                                   bytes.begin() + static_cast<std::ptrdiff_t>(length));
    Result<void> taken = receive(reader, arrived, (flags & kStraight) != 0);
    if (!taken.ok()) {
      NBDKIT_CHECK(taken.error().code == std::errc::protocol_error);
      return;
    }
    bytes = bytes.subspan(length);
  }
}

}  // namespace
}  // namespace nbdkit

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  nbdkit::check({data, size});
  return 0;
}
