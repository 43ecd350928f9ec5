// SPDX-License-Identifier: BSD-3-Clause
#include "device.h"

#include <cstring>

#include "base/range.h"

namespace nbdkit {

Task<void> FileDevice::pread(Request request, Reply& reply) {
  Result<void> aligned = backing_->check_alignment(request);
  if (!aligned.ok()) return aligned;
  auto buffer = reply.buffer(static_cast<std::size_t>(request.length));
  if (!buffer.ok()) return Result<void>(std::move(buffer).error());
  std::span<std::byte> bytes = buffer.value();
  std::size_t done = backing_->read_now(request.offset, bytes);
  if (done == bytes.size()) return Result<void>();
  return context_.blocking([backing = backing_.get(), at = request.offset + done,
                            rest = bytes.subspan(done)] { return backing->read(at, rest); });
}

Task<void> FileDevice::pwrite(Request request, Payload& payload) {
  Result<void> aligned = backing_->check_alignment(request);
  if (!aligned.ok()) return aligned;
  const bool fua = request.has(RequestFlags::fua);
  std::size_t done = fua ? 0 : backing_->write_now(request.offset, payload.bytes());
  if (done == payload.bytes().size()) return Result<void>();
  Result<void> pinned = payload.pin();
  if (!pinned.ok()) return pinned;
  std::span<const std::byte> rest = payload.bytes().subspan(done);
  auto address = reinterpret_cast<std::uintptr_t>(rest.data());
  if (!is_aligned(address, backing_->file().memory_align))
    return pwrite_unaligned(request, payload);
  return context_.blocking([backing = backing_.get(), at = request.offset + done, rest, fua] {
    return backing->write(at, rest, fua);
  });
}

// A part of a larger payload may begin anywhere, but direct access is particular about addresses.
Task<void> FileDevice::pwrite_unaligned(Request request, Payload& payload) {
  Result<Buffer> buffer = payload.new_buffer(payload.bytes().size());
  if (!buffer.ok()) co_await fail(std::move(buffer).error());
  std::span<std::byte> copy = buffer.value().bytes();
  std::memcpy(copy.data(), payload.bytes().data(), copy.size());
  co_await context_.blocking([this, request, copy] {
    return backing_->write(request.offset, copy, request.has(RequestFlags::fua));
  });
}

Task<void> FileDevice::flush() {
  return context_.blocking([this] { return backing_->flush(); });
}

Task<void> FileDevice::trim(Request request) {
  return context_.blocking([this, request] { return backing_->trim(request); });
}

Task<void> FileDevice::zero(Request request) {
  Result<void> aligned = backing_->check_alignment(request);
  if (!aligned.ok()) return aligned;
  return context_.blocking([this, request] { return backing_->zero(request); });
}

Task<void> FileDevice::cache(Request request) {
  return context_.blocking([this, request] { return backing_->cache(request); });
}

Task<void> FileDevice::extents(Request request, Extents& extents) {
  return context_.blocking(
      [this, request, &extents] { return backing_->extents(request, extents); });
}

Task<void> FileDevice::close() {
  return context_.blocking([this]() -> Result<void> {
    backing_.reset();
    return {};
  });
}

}  // namespace nbdkit
