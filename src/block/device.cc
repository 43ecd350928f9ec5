// SPDX-License-Identifier: BSD-3-Clause
#include "block/device.h"

#include <algorithm>

namespace nbdkit {

Task<void> BlockDevice::pwrite(Request, Payload&) {
  return Result<void>(std::errc::read_only_file_system);
}
Task<void> BlockDevice::flush() { return Result<void>(std::errc::invalid_argument); }
Task<void> BlockDevice::trim(Request) { return Result<void>(std::errc::invalid_argument); }
Task<void> BlockDevice::zero(Request) { return Result<void>(std::errc::read_only_file_system); }
Task<void> BlockDevice::cache(Request) { return Result<void>(std::errc::invalid_argument); }

Task<void> BlockDevice::extents(Request request, Extents& extents) {
  return extents.add(request.offset, request.length, ExtentType::data);
}

Task<void> BlockDevice::close() { return Result<void>(); }

Chain::Chain(DevicePtr device) : device_(std::move(device)) {
  for (std::size_t i = 0; i < kOperations; ++i) {
    targets_[i] = &device_->target(static_cast<Operation>(i));
  }
}

Task<void> zero_by_writing(BlockDevice& device, Request request, BufferPool& pool) {
  std::size_t piece_max = static_cast<std::size_t>(std::min(request.length, kZeroPieceMax));
  Result<Buffer> zeroes = pool.get(piece_max, 0);
  if (!zeroes.ok()) co_await fail(std::move(zeroes).error());
  std::span<std::byte> bytes = zeroes.value().bytes();
  std::fill(bytes.begin(), bytes.end(), std::byte{0});
  Payload whole(std::move(zeroes).value(), pool, 0);
  // FUA speaks only of the write that carries it, so every piece does.
  RequestFlags flags = request.flags & RequestFlags::fua;
  for (std::uint64_t done = 0; done < request.length;) {
    std::uint64_t length = std::min<std::uint64_t>(piece_max, request.length - done);
    Payload piece = whole.part(0, static_cast<std::size_t>(length));
    co_await device.pwrite(request.part(done, length).with(flags), piece);
    done += length;
  }
}

}  // namespace nbdkit
