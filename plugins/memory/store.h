// SPDX-License-Identifier: BSD-3-Clause
// Store: where the bytes of the disk are, one for each word that allocator= takes.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "block/context.h"
#include "block/device.h"

namespace nbdkit {

// One for the whole process. Once load() has ended, devices on any loop use it at the same time.
class Store {
 public:
  Store() = default;
  Store(const Store&) = delete;
  Store& operator=(const Store&) = delete;
  virtual ~Store() = default;

  // Errors that the user should see at the start; before the last fork.
  virtual Result<void> get_ready() { return {}; }
  virtual Result<void> after_fork() { return {}; }
  // Before every open, on a worker.
  virtual Result<void> load() { return {}; }
  // `context` and the Store outlive the device.
  virtual DevicePtr open(Context& context, Properties properties) = 0;

  // Names data that outlives the process; empty: there is none.
  virtual std::string identity() const { return {}; }
};

std::unique_ptr<Store> make_sparse(std::uint64_t size, int kept_memory);
std::unique_ptr<Store> make_flat(std::uint64_t size, bool locked);
std::unique_ptr<Store> make_zstd(std::uint64_t size);

// What takes longer than about 100 us goes to a worker.
inline constexpr std::uint64_t kInlineZeroMax = 1024 * 1024;
inline constexpr std::uint64_t kInlineExtentsMax = 256 * 1024 * 1024;

// A device whose store answers from memory at once.
template <typename S>
class MappedDevice final : public BlockDevice {
 public:
  MappedDevice(Context& context, S& store, Properties properties)
      : BlockDevice(std::move(properties)), context_(context), store_(store) {}

  Task<void> pread(Request request, Reply& reply) override {
    store_.read(request, reply);
    return Result<void>();
  }
  Task<void> pwrite(Request request, Payload& payload) override {
    return store_.write(request.offset, payload.bytes());
  }
  // There is nothing behind the memory that could be flushed.
  Task<void> flush() override { return Result<void>(); }
  Task<void> trim(Request request) override {
    return zero(request.with(request.flags | RequestFlags::may_trim));
  }
  Task<void> zero(Request request) override {
    if (request.length <= kInlineZeroMax) return store_.zero(request);
    return context_.blocking([this, request] { return store_.zero(request); });
  }
  Task<void> cache(Request) override { return Result<void>(); }
  Task<void> extents(Request request, Extents& extents) override {
    if (request.length <= kInlineExtentsMax) return store_.extents(request, extents);
    return context_.blocking(
        [this, request, &extents] { return store_.extents(request, extents); });
  }

 private:
  Context& context_;
  S& store_;
};

}  // namespace nbdkit
