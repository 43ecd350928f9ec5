// SPDX-License-Identifier: BSD-3-Clause
#include "async/buffer_pool.h"

#include <sys/mman.h>

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

constexpr std::size_t stock_size() {
  std::size_t size = 0;
  for (const BufferPool::Stocked& one : BufferPool::kStock) size += one.size * one.count;
  return size;
}

}  // namespace

Buffer::Buffer(Buffer&& other) noexcept
    : pool_(other.pool_),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      size_class_(other.size_class_),
      owner_(other.owner_) {}

Buffer& Buffer::operator=(Buffer&& other) noexcept {
  if (this == &other) return *this;
  reset();
  pool_ = other.pool_;
  data_ = std::exchange(other.data_, nullptr);
  size_ = std::exchange(other.size_, 0);
  size_class_ = other.size_class_;
  owner_ = other.owner_;
  return *this;
}

void Buffer::reset() {
  if (data_ == nullptr) return;
  size_ = 0;
  pool_->put(std::exchange(data_, nullptr), size_class_, owner_);
}

BufferPool::~BufferPool() {
  for (std::size_t i = 0; i < kClasses; ++i) {
    while (Unused* piece = unused_[i]) {
      unused_[i] = piece->next;
      auto* memory = reinterpret_cast<std::byte*>(piece);
      if (!is_of_stock(memory)) free(memory, size_of(i));
    }
  }
}

std::byte* BufferPool::allocate(std::size_t size) {
  if (size >= kMappedMin) {
    void* memory =
        ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? nullptr : static_cast<std::byte*>(memory);
  }
  void* memory = std::aligned_alloc(kPage, size);
  if (memory != nullptr) std::memset(memory, 0, size);
  return static_cast<std::byte*>(memory);
}

void BufferPool::free(std::byte* data, std::size_t size) {
  if (size < kMappedMin) return std::free(data);
  ::munmap(data, size);
}

// The kernel's fresh pages cost less than writing over what may never be used.
void BufferPool::clear(std::byte* data, std::size_t size) {
  if (size >= kMappedMin && ::madvise(data, size, MADV_DONTNEED) == 0) return;
  std::memset(data, 0, size);
}

Result<Buffer> BufferPool::get(std::size_t size, std::uint64_t owner) {
  NBDKIT_CHECK(size > 0 && size <= kSizeMax);
  std::size_t size_class = class_for(size);
  std::size_t whole = size_of(size_class);
  Unused* piece = unused_[size_class];
  if (piece == nullptr) {
    std::byte* memory = allocate(whole);
    if (memory == nullptr) return std::errc::not_enough_memory;
    return Buffer(*this, memory, size, size_class, owner);
  }
  unused_[size_class] = piece->next;
  bool foreign = piece->owner != owner;
  auto* memory = reinterpret_cast<std::byte*>(piece);
  if (!is_of_stock(memory)) kept_bytes_ -= whole;
  std::memset(memory, 0, sizeof(Unused));  // The list's node is nobody's data.
  if (foreign) clear(memory, whole);
  return Buffer(*this, memory, size, size_class, owner);
}

void BufferPool::put(std::byte* data, std::size_t size_class, std::uint64_t owner) {
  if (!is_of_stock(data)) {
    std::size_t whole = size_of(size_class);
    if (kept_bytes_ + whole > kKeptBytesMax) return free(data, whole);
    kept_bytes_ += whole;
  }
  unused_[size_class] = new (data) Unused{unused_[size_class], owner};
}

void BufferPool::Unmap::operator()(std::byte* memory) const { ::munmap(memory, stock_size()); }

Result<void> BufferPool::stock() {
  if (is_stocked()) return {};
  void* memory =
      ::mmap(nullptr, stock_size(), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return os_error("memory for requests");
  std::memset(memory, 0, stock_size());
  stock_.reset(static_cast<std::byte*>(memory));
  std::byte* at = stock_.get();
  for (const Stocked& one : kStock) {
    for (std::size_t i = 0; i < one.count; ++i, at += one.size) put(at, class_of(one.size), 0);
  }
  return {};
}

std::size_t BufferPool::stock_of(std::size_t size) {
  std::size_t i = 0;
  while (kStock[i].size < size) ++i;
  return i;
}

bool BufferPool::may_reserve(std::size_t size) const {
  std::size_t i = stock_of(size);
  return reserved_[i] < kStock[i].count;
}

std::size_t BufferPool::class_for(std::size_t size) const {
  bool stocked = is_stocked() && size <= kStockedSizeMax;
  return class_of(stocked ? kStock[stock_of(size)].size : size);
}

bool BufferPool::is_of_stock(const std::byte* data) const {
  return is_stocked() && data >= stock_.get() && data < stock_.get() + stock_size();
}

}  // namespace nbdkit
