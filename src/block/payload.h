// SPDX-License-Identifier: BSD-3-Clause
// Payload: the data of a write, complete before any layer sees it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "async/buffer_pool.h"

namespace nbdkit {

// Often a view of the memory that the loop receives into, which is gone when the caller returns.
// The engine copies what is not finished then, so after every co_await ask bytes() again; a layer
// that gives the bytes to another thread calls pin() first.
class Payload {
 public:
  // A view of somebody's memory.
  Payload(std::span<const std::byte> bytes, BufferPool& pool, std::uint64_t owner)
      : bytes_(bytes), pool_(&pool), owner_(owner) {}
  // Memory of its own.
  Payload(Buffer buffer, BufferPool& pool, std::uint64_t owner)
      : bytes_(buffer.bytes()),
        buffer_(std::move(buffer)),
        pinned_(true),
        pool_(&pool),
        owner_(owner) {}

  std::span<const std::byte> bytes() const {
    return whole_ != nullptr ? whole_->bytes().subspan(from_, bytes_.size()) : bytes_;
  }
  bool pinned() const { return whole_ != nullptr ? whole_->pinned() : pinned_; }

  // From now on the bytes stay where they are, page-aligned when they had to be copied (all of the
  // whole when this is a part).
  Result<void> pin();

  // A part of this one, for a layer that splits requests. This one must stay where it is as long
  // as the part is used: pinning either moves both.
  Payload part(std::size_t from, std::size_t length) {
    Payload view(bytes().subspan(from, length), *pool_, owner_);
    view.whole_ = this;
    view.from_ = from;
    return view;
  }
  // For a layer that writes other bytes than it was given.
  Result<Buffer> new_buffer(std::size_t length) const { return pool_->get(length, owner_); }
  BufferPool& pool() const { return *pool_; }
  std::uint64_t owner() const { return owner_; }

 private:
  std::span<const std::byte> bytes_;  // of a part: only the size counts
  Payload* whole_ = nullptr;          // what this is a part of
  std::size_t from_ = 0;              // where in it
  Buffer buffer_;
  bool pinned_ = false;
  BufferPool* pool_;
  std::uint64_t owner_;
};

}  // namespace nbdkit
