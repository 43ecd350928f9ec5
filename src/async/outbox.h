// SPDX-License-Identifier: BSD-3-Clause
// Outbox: messages on their way to a stream. A turn's messages leave with one sendmsg().
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "async/stream.h"

namespace nbdkit {

// Holds headers by copy and data by reference: whoever lent the data keeps it until empty().
class Outbox {
 public:
  static constexpr std::size_t kMessagesMax = 512;
  static constexpr std::size_t kBytesMax = 2 * 1024 * 1024;

  // What the stock below has room for: headers and error texts of kMessagesMax messages and of what
  // ends while they cannot be sent.
  static constexpr std::size_t kStockedPieces = 4096;
  static constexpr std::size_t kStockedBlocks = 16;

  // Takes now all the memory that it will need, and keeps it.
  void stock();

  bool empty() const { return first_ == pieces_.size(); }
  // Whether it is time to send before more is added; a hint, not a limit.
  bool full() const { return messages_ >= kMessagesMax || bytes_ >= kBytesMax; }

  // Copies a wire struct.
  template <typename Wire>
  void add(const Wire& wire) {
    add_copy(std::as_bytes(std::span(&wire, 1)));
  }
  void add_copy(std::span<const std::byte> bytes);
  // Refers to memory; nullptr stands for zeroes.
  void add(const std::byte* data, std::size_t length);
  void count_message() { ++messages_; }

  // Sends what the stream takes. True when nothing is left, false when it would block.
  Result<bool> send(ByteStream& stream);
  // Forgets everything.
  void clear();

  // All bytes that were ever added, and how many of them have left: whoever lent data may have it
  // back when `sent` has reached what `added` was behind it.
  std::uint64_t added() const { return added_; }
  std::uint64_t sent() const { return sent_; }

 private:
  static constexpr std::size_t kBlockSize = 8 * 1024;

  void add_piece(const void* data, std::size_t length);

  std::vector<iovec> pieces_;
  std::size_t first_ = 0;  // The first that is not sent completely.
  std::size_t bytes_ = 0;
  std::size_t messages_ = 0;
  std::uint64_t added_ = 0;
  std::uint64_t sent_ = 0;
  // Where copies live. Blocks never move, since pieces_ points into them.
  std::vector<std::unique_ptr<std::byte[]>> blocks_;
  std::size_t blocks_kept_ = 1;  // while nothing is to be sent
  std::size_t block_ = 0;
  std::size_t block_used_ = 0;
};

}  // namespace nbdkit
