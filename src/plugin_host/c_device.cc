// SPDX-License-Identifier: BSD-3-Clause
#include "plugin_host/c_device.h"

#include <algorithm>

namespace nbdkit {

// The part of a request that runs on a worker.
class CDevice::Calls {
 public:
  Calls(const CDevice& device, CallContext& context)
      : device_(device), functions_(device.functions_), context_(context) {}

  Result<void> write(std::uint64_t offset, std::span<const std::byte> bytes, bool fua) {
    for (std::size_t done = 0; done < bytes.size();) {
      std::size_t length = std::min<std::uint64_t>(kDataMax, bytes.size() - done);
      NBDKIT_TRY(functions_.pwrite(context_, device_.handle_, bytes.subspan(done, length),
                                   offset + done, native(fua)));
      done += length;
    }
    return finish(fua);
  }

  Result<void> trim(Request request) {
    bool fua = request.has(RequestFlags::fua);
    for (std::uint64_t done = 0; done < request.length;) {
      std::uint32_t count = count_of(request.length - done);
      NBDKIT_TRY(
          functions_.trim(context_, device_.handle_, count, request.offset + done, native(fua)));
      done += count;
    }
    return finish(fua);
  }

  Result<void> zero(Request request) {
    bool fua = request.has(RequestFlags::fua);
    bool fast = request.has(RequestFlags::fast_zero);
    if (fast && !(device_.can_zero_ && functions_.has_zero_flags()))
      return std::errc::not_supported;
    std::uint32_t flags = native(fua);
    if (request.has(RequestFlags::may_trim)) flags |= NBDKIT_FLAG_MAY_TRIM;
    if (fast) flags |= NBDKIT_FLAG_FAST_ZERO;
    std::uint64_t done = 0;
    while (device_.can_zero_ && done < request.length) {
      std::uint32_t count = count_of(request.length - done);
      Result<void> result =
          functions_.zero(context_, device_.handle_, count, request.offset + done, flags);
      if (!result.ok()) {
        // ENOTSUP is how a plugin says that it cannot do it here: the rest is written.
        if (fast || result.error().code != std::errc::not_supported) return result;
        break;
      }
      done += count;
    }
    NBDKIT_TRY(write_zeroes(request.offset + done, request.length - done, native(fua)));
    return finish(fua);
  }

  Result<void> cache(Request request) {
    for (std::uint64_t done = 0; done < request.length;) {
      std::uint32_t count = count_of(request.length - done);
      NBDKIT_TRY(functions_.cache(context_, device_.handle_, count, request.offset + done));
      done += count;
    }
    return {};
  }

  Result<void> cache_by_reading(Request request, std::span<std::byte> scratch) {
    for (std::uint64_t done = 0; done < request.length;) {
      std::uint64_t length = std::min<std::uint64_t>(scratch.size(), request.length - done);
      NBDKIT_TRY(functions_.pread(context_, device_.handle_, scratch.first(length),
                                  request.offset + done));
      done += length;
    }
    return {};
  }

 private:
  static std::uint32_t count_of(std::uint64_t length) {
    return static_cast<std::uint32_t>(std::min(length, kCountMax));
  }

  std::uint32_t native(bool fua) const {
    return fua && device_.fua_ == FuaMode::native ? NBDKIT_FLAG_FUA : 0u;
  }

  // One flush at the end covers every call of the request.
  Result<void> finish(bool fua) {
    if (!fua || device_.fua_ != FuaMode::emulate) return {};
    return functions_.flush(context_, device_.handle_);
  }

  Result<void> write_zeroes(std::uint64_t offset, std::uint64_t length, std::uint32_t flags) {
    std::uint64_t piece_max = kDataMax;
    const BlockSize& block = device_.properties().block_size;
    if (block.known()) piece_max = std::min<std::uint64_t>(piece_max, block.maximum);
    for (std::uint64_t done = 0; done < length;) {
      std::uint64_t piece = std::min(piece_max, length - done);
      NBDKIT_TRY(functions_.pwrite(context_, device_.handle_, device_.zeroes_.first(piece),
                                   offset + done, flags));
      done += piece;
    }
    return {};
  }

  const CDevice& device_;
  const CFunctions& functions_;
  CallContext& context_;
};

CDevice::CDevice(std::unique_ptr<CConnection> connection, const CFunctions& functions,
                 std::span<const std::byte> zeroes, Opened opened)
    : BlockDevice(std::move(opened.properties)),
      connection_(std::move(connection)),
      functions_(functions),
      zeroes_(zeroes),
      handle_(opened.handle),
      can_zero_(opened.can_zero),
      fua_(opened.fua),
      cache_(opened.cache),
      reads_(connection_->plugin().reads()),
      writes_(connection_->plugin().writes()) {}

Task<void> CDevice::pread(Request request, Reply& reply) {
  if (request.length > kDataMax) return read_in_pieces(request, reply);
  return read_piece(request.offset, request.length, reply);
}

Task<void> CDevice::read_piece(std::uint64_t offset, std::uint64_t length, Reply& reply) {
  Result<std::span<std::byte>> buffer = reply.buffer(length);
  if (!buffer.ok()) return Result<void>(std::move(buffer).error());
  std::span<std::byte> bytes = buffer.value();
  return connection_->run_data(reads_, length, [this, bytes, offset](CallContext& context) {
    return functions_.pread(context, handle_, bytes, offset);
  });
}

Task<void> CDevice::read_in_pieces(Request request, Reply& reply) {
  for (std::uint64_t done = 0; done < request.length;) {
    std::uint64_t length = std::min(kDataMax, request.length - done);
    co_await read_piece(request.offset + done, length, reply);
    done += length;
  }
}

Task<void> CDevice::pwrite(Request request, Payload& payload) {
  Result<void> pinned = payload.pin();
  if (!pinned.ok()) return pinned;
  const bool fua = request.has(RequestFlags::fua);
  auto write = [this, offset = request.offset, fua, &payload](CallContext& context) {
    return Calls(*this, context).write(offset, payload.bytes(), fua);
  };
  // With FUA there may be a flush in it, which says nothing about writes.
  if (fua) return connection_->run(Messages::log, write);
  return connection_->run_data(writes_, request.length, write);
}

Task<void> CDevice::flush() {
  return connection_->run(
      Messages::log, [this](CallContext& context) { return functions_.flush(context, handle_); });
}

Task<void> CDevice::trim(Request request) {
  return connection_->run(Messages::log, [this, request](CallContext& context) {
    return Calls(*this, context).trim(request);
  });
}

Task<void> CDevice::zero(Request request) {
  if (!properties().can_write) return BlockDevice::zero(request);
  return connection_->run(Messages::log, [this, request](CallContext& context) {
    return Calls(*this, context).zero(request);
  });
}

Task<void> CDevice::cache(Request request) {
  if (cache_ == CacheMode::none) co_await fail(std::errc::invalid_argument);
  if (cache_ == CacheMode::native) {
    co_await connection_->run(Messages::log, [this, request](CallContext& context) {
      return Calls(*this, context).cache(request);
    });
    co_return;
  }
  const Context& owner = connection_->context();
  Result<Buffer> scratch =
      owner.buffers().get(std::min(kScratchMax, request.length), owner.connection());
  if (!scratch.ok()) co_await fail(std::move(scratch).error());
  std::span<std::byte> bytes = scratch.value().bytes();
  co_await connection_->run(Messages::log, [this, request, bytes](CallContext& context) {
    return Calls(*this, context).cache_by_reading(request, bytes);
  });
}

Task<void> CDevice::extents(Request request, Extents& extents) {
  if (!properties().can_extents) return BlockDevice::extents(request, extents);
  auto count = static_cast<std::uint32_t>(std::min(request.length, kCountMax));
  std::uint32_t flags = request.has(RequestFlags::one) ? NBDKIT_FLAG_REQ_ONE : 0;
  std::uint64_t offset = request.offset;
  return connection_->run(
      Messages::log, [this, count, offset, flags, &extents](CallContext& context) {
        return functions_.extents(context, handle_, count, offset, flags, extents);
      });
}

Task<void> CDevice::close() {
  if (functions_.table().close != nullptr) {
    co_await connection_->run(Messages::log, [this](CallContext& context) {
      context.call(functions_.table().close, handle_);
      return Result<void>();
    });
  }
  connection_.reset();
}

}  // namespace nbdkit
