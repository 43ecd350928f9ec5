// SPDX-License-Identifier: BSD-3-Clause
// Reply: the data of a read, as pieces in ascending order. A layer fills a buffer, lends memory
// that it owns, or says that a part is a hole; nothing is copied on the way to the socket.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "async/buffer_pool.h"
#include "async/job.h"

namespace nbdkit {

// One request's; its loop only (a worker may fill a buffer). Outlives the Task that fills it.
class Reply {
 public:
  struct Piece {
    const std::byte* data;  // nullptr: `length` bytes of zeroes, a hole.
    std::size_t length;
  };

  Reply(BufferPool& pool, std::uint64_t owner) : pool_(pool), owner_(owner) {}
  Reply(const Reply&) = delete;
  Reply& operator=(const Reply&) = delete;
  ~Reply() { clear(); }

  // Room for what an ordinary answer consists of.
  void reserve();

  // Appends `length` bytes to be filled before the Task ends. 1 to BufferPool::kSizeMax.
  // Not zeroed, but never another client's data.
  Result<std::span<std::byte>> buffer(std::size_t length);

  // Appends memory of the layer's, which must stay readable until `release` runs (on the loop,
  // after the data was sent), or as long as the device is open when `release` is null. The bytes
  // may change meanwhile only by requests that overlap this one.
  void lend(std::span<const std::byte> bytes, Job* release = nullptr);

  // Appends zeroes that need not exist anywhere.
  void hole(std::uint64_t length);

  // Takes all pieces of `other`, which is empty then. Both belong to one loop.
  void append(Reply& other);

  // Takes `length` bytes of `other` from `from` on; all of it is gone then.
  void append_part(Reply& other, std::uint64_t from, std::uint64_t length);

  // For a layer that changes what it read: everything in one buffer.
  Result<std::span<std::byte>> mutable_bytes();

  // Forgets all pieces and releases what was lent.
  void clear();

  std::uint64_t size() const { return size_; }
  std::span<const Piece> pieces() const { return pieces_; }

 private:
  static constexpr std::size_t kReserved = 4;

  bool is_one_buffer() const;

  BufferPool& pool_;
  std::uint64_t owner_;
  std::uint64_t size_ = 0;
  std::vector<Piece> pieces_;  // The vectors keep their memory when a Reply is used again.
  std::vector<Buffer> buffers_;
  std::vector<Job*> releases_;
};

}  // namespace nbdkit
