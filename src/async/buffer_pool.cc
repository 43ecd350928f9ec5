// SPDX-License-Identifier: BSD-3-Clause
#include "async/buffer_pool.h"

#include <bit>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/check.h"

namespace nbdkit {
namespace {

constexpr std::size_t kPage = 4096;

std::size_t class_of(std::size_t size) {
  std::size_t rounded = std::bit_ceil(size < kPage ? kPage : size);
  return static_cast<std::size_t>(std::countr_zero(rounded) - std::countr_zero(kPage));
}

std::size_t size_of(std::size_t size_class) { return kPage << size_class; }

}  // namespace

Buffer::Buffer(Buffer&& other) noexcept
    : pool_(other.pool_),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      owner_(other.owner_) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this == &other) return *this;
  reset();
  pool_ = other.pool_;
  data_ = std::exchange(other.data_, nullptr);
  size_ = std::exchange(other.size_, 0);
  owner_ = other.owner_;
  return *this;
}

void Buffer::reset() {
  if (data_ == nullptr) return;
  pool_->put(std::exchange(data_, nullptr), std::exchange(size_, 0), owner_);
}

BufferPool::~BufferPool() {
  for (Unused* piece : unused_) {
    while (piece != nullptr) std::free(std::exchange(piece, piece->next));
  }
}

Result<Buffer> BufferPool::get(std::size_t size, std::uint64_t owner) {
  NBDKIT_CHECK(size > 0 && size <= kSizeMax);
  std::size_t size_class = class_of(size);
  std::size_t whole = size_of(size_class);
  Unused*& head = unused_[size_class];
  if (head == nullptr) {
    void* memory = std::aligned_alloc(kPage, whole);
    if (memory == nullptr) return std::errc::not_enough_memory;
    std::memset(memory, 0, whole);
    return Buffer(*this, static_cast<std::byte*>(memory), size, owner);
  }
  Unused* piece = head;
  head = piece->next;
  kept_bytes_ -= whole;
  // The list node is this program's own and no connection's.
  std::size_t foreign = piece->owner == owner ? sizeof(Unused) : whole;
  std::memset(static_cast<void*>(piece), 0, foreign);
  return Buffer(*this, reinterpret_cast<std::byte*>(piece), size, owner);
}

void BufferPool::put(std::byte* data, std::size_t size, std::uint64_t owner) {
  std::size_t size_class = class_of(size);
  std::size_t whole = size_of(size_class);
  if (kept_bytes_ + whole > kKeptBytesMax) return std::free(data);
  auto* piece = new (data) Unused{unused_[size_class], owner};
  unused_[size_class] = piece;
  kept_bytes_ += whole;
}

}  // namespace nbdkit
