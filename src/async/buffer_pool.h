// SPDX-License-Identifier: BSD-3-Clause
// BufferPool: memory for payloads, by size class, without malloc and page faults on every request.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "base/result.h"

namespace nbdkit {

class BufferPool;

// Owns one piece of a pool's memory and gives it back. Aligned to a page, so that it serves
// O_DIRECT as it is. Used and freed on its pool's loop; a worker may fill it in between.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;
  ~Buffer() { reset(); }

  explicit operator bool() const { return data_ != nullptr; }
  std::span<std::byte> bytes() const { return {data_, size_}; }
  void reset();

 private:
  friend class BufferPool;
  Buffer(BufferPool& pool, std::byte* data, std::size_t size, std::size_t size_class,
         std::uint64_t owner)
      : pool_(&pool), data_(data), size_(size), size_class_(size_class), owner_(owner) {}

  BufferPool* pool_ = nullptr;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t size_class_ = 0;
  std::uint64_t owner_ = 0;
};

// One loop's; its thread only. Outlives its buffers.
class BufferPool {
 public:
  static constexpr std::size_t kSizeMin = 4096;
  static constexpr std::size_t kSizeMax = 64 * 1024 * 1024;
  static constexpr std::size_t kKeptBytesMax = 64 * 1024 * 1024;  // Unused memory kept for reuse.

  BufferPool() = default;
  BufferPool(const BufferPool&) = delete;
  BufferPool& operator=(const BufferPool&) = delete;
  ~BufferPool();

  // `size` bytes, 1 to kSizeMax. `owner` names a connection: memory that another one has used, or
  // nobody yet, comes zeroed, because a plugin that fills it short must not leak foreign bytes.
  Result<Buffer> get(std::size_t size, std::uint64_t owner);

  // Few sizes, so that a small buffer never takes the place of a large one: what comes to be needed
  // is known from the requests that have been begun. Most of a kernel's are of a page or a few,
  // what it writes to swap is put together to 128 KiB and more, up to 1280 KiB.
  struct Stocked {
    std::size_t size;
    std::size_t count;
  };
  static constexpr std::array<Stocked, 3> kStock{{{16 << 10, 128}, {128 << 10, 48}, {2 << 20, 2}}};
  static constexpr std::size_t kStockedSizeMax = kStock.back().size;

  // Takes the memory for kStock now and keeps it; touched, so that it is there.
  Result<void> stock();
  bool is_stocked() const { return stock_ != nullptr; }
  // Who asks first and gives back does not get more than is there. Not for sizes above
  // kStockedSizeMax.
  bool may_reserve(std::size_t size) const;
  void reserve(std::size_t size) { ++reserved_[stock_of(size)]; }
  void give_back(std::size_t size) { --reserved_[stock_of(size)]; }

 private:
  friend class Buffer;
  static constexpr std::size_t kClasses = 15;  // 4 KiB, 8 KiB ... 64 MiB

  // From this size on memory comes from the kernel: zeroed without being touched, so that a client
  // that announces much and sends little costs little.
  static constexpr std::size_t kMappedMin = 1024 * 1024;

  // Lives in the first bytes of unused memory.
  struct Unused {
    Unused* next;
    std::uint64_t owner;
  };

  static std::size_t stock_of(std::size_t size);
  std::size_t class_for(std::size_t size) const;
  bool is_of_stock(const std::byte* data) const;
  void put(std::byte* data, std::size_t size_class, std::uint64_t owner);
  static std::byte* allocate(std::size_t size);
  static void free(std::byte* data, std::size_t size);
  static void clear(std::byte* data, std::size_t size);

  struct Unmap {
    void operator()(std::byte* memory) const;
  };

  std::array<Unused*, kClasses> unused_{};
  std::unique_ptr<std::byte, Unmap> stock_;
  std::array<std::size_t, kStock.size()> reserved_{};
  std::size_t kept_bytes_ = 0;
};

}  // namespace nbdkit
