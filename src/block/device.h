// SPDX-License-Identifier: BSD-3-Clause
// BlockDevice: one connection's view of the data, through one layer.
#pragma once

#include <array>
#include <cstddef>
#include <memory>

#include "async/task.h"
#include "block/extents.h"
#include "block/payload.h"
#include "block/properties.h"
#include "block/reply.h"
#include "block/request.h"

namespace nbdkit {

enum class Operation { read, write, flush, trim, zero, cache, extents };
inline constexpr std::size_t kOperations = 7;

// Made by Layer::open() and used from one loop only; many requests may be under way at once. The
// objects given by reference outlive the Task. What may block goes through Context::blocking().
class BlockDevice {
  friend class FilterLayer;  // Sees to it that a filter's devices announce what it declares.

 public:
  explicit BlockDevice(Properties properties) : properties_(std::move(properties)) {}
  BlockDevice(const BlockDevice&) = delete;
  BlockDevice& operator=(const BlockDevice&) = delete;
  virtual ~BlockDevice() = default;

  const Properties& properties() const { return properties_; }

  // Appends exactly request.length bytes to the reply.
  virtual Task<void> pread(Request request, Reply& reply) = 0;
  // payload.bytes() has request.length bytes. With FUA only when can_fua.
  virtual Task<void> pwrite(Request request, Payload& payload);
  // Everything answered before is durable when it ends.
  virtual Task<void> flush();
  // Advice: the data is not needed any more. What is read afterwards is undefined.
  virtual Task<void> trim(Request request);
  // Reads as zeroes afterwards. fast_zero only when can_fast_zero.
  virtual Task<void> zero(Request request);
  // Advice: will be read soon.
  virtual Task<void> cache(Request request);
  // Adds at least the extent at request.offset.
  virtual Task<void> extents(Request request, Extents& extents);

  // The last call, and only when nothing is under way. Destructors must not block, so what may
  // block belongs here.
  virtual Task<void> close();

  // The device that really does `operation`: this one, unless it would only forward.
  virtual BlockDevice& target(Operation) { return *this; }

 protected:
  // Only while it is being opened: afterwards everybody may have looked.
  Properties& mutable_properties() { return properties_; }

 private:
  Properties properties_;
};

using DevicePtr = std::unique_ptr<BlockDevice>;

// A device with a shortcut for every operation past the layers that do not take part in it.
class Chain {
 public:
  explicit Chain(DevicePtr device);

  const Properties& properties() const { return device_->properties(); }
  BlockDevice& target(Operation operation) const { return *targets_[index(operation)]; }

  Task<void> pread(Request request, Reply& reply) const {
    return target(Operation::read).pread(request, reply);
  }
  Task<void> pwrite(Request request, Payload& payload) const {
    return target(Operation::write).pwrite(request, payload);
  }
  Task<void> flush() const { return target(Operation::flush).flush(); }
  Task<void> trim(Request request) const { return target(Operation::trim).trim(request); }
  Task<void> zero(Request request) const { return target(Operation::zero).zero(request); }
  Task<void> cache(Request request) const { return target(Operation::cache).cache(request); }
  Task<void> extents(Request request, Extents& extents) const {
    return target(Operation::extents).extents(request, extents);
  }
  // Every layer is told, so no shortcut here.
  Task<void> close() const { return device_->close(); }

 private:
  static constexpr std::size_t index(Operation operation) {
    return static_cast<std::size_t>(operation);
  }

  DevicePtr device_;
  std::array<BlockDevice*, kOperations> targets_;
};

// zero() for a device that has nothing better: writes zeroes in pieces of at most kZeroPieceMax.
// `device` and `pool` outlive the Task.
inline constexpr std::uint64_t kZeroPieceMax = 1024 * 1024;
Task<void> zero_by_writing(BlockDevice& device, Request request, BufferPool& pool);

}  // namespace nbdkit
