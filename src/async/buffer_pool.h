// SPDX-License-Identifier: BSD-3-Clause
// BufferPool: memory for payloads, by size class, without malloc and page faults on every request.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
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
  Buffer(BufferPool& pool, std::byte* data, std::size_t size, std::uint64_t owner)
      : pool_(&pool), data_(data), size_(size), owner_(owner) {}

  BufferPool* pool_ = nullptr;
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
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

  void put(std::byte* data, std::size_t size, std::uint64_t owner);
  static std::byte* allocate(std::size_t size);
  static void free(std::byte* data, std::size_t size);
  static void clear(std::byte* data, std::size_t size);

  std::array<Unused*, kClasses> unused_{};
  std::size_t kept_bytes_ = 0;
};

}  // namespace nbdkit
