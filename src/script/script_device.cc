// SPDX-License-Identifier: BSD-3-Clause
#include "script/script_device.h"

#include <algorithm>
#include <vector>

namespace nbdkit {

// The part of a request that runs on a worker: one or more calls that nothing comes between when
// the thread model says so.
class ScriptDevice::Calls {
 public:
  Calls(const ScriptDevice& device, const ScriptMethods& methods)
      : device_(device), methods_(methods), handle_(device.handle_) {}

  Result<void> write(std::uint64_t offset, std::span<const std::byte> bytes, bool fua) const {
    for (std::size_t done = 0; done < bytes.size();) {
      std::size_t length = std::min<std::uint64_t>(kDataMax, bytes.size() - done);
      NBDKIT_TRY(methods_.pwrite(handle_, offset + done, bytes.subspan(done, length), native(fua)));
      done += length;
    }
    return finish(fua);
  }

  Result<void> trim(Request request) const {
    const bool fua = request.has(RequestFlags::fua);
    for (std::uint64_t done = 0; done < request.length;) {
      std::uint64_t length = std::min(kCountMax, request.length - done);
      NBDKIT_TRY(methods_.trim(handle_, request.part(done, length), native(fua)));
      done += length;
    }
    return finish(fua);
  }

  Result<void> zero(Request request) const {
    const bool fua = request.has(RequestFlags::fua);
    const bool fast = request.has(RequestFlags::fast_zero);
    if (fast && !device_.can_zero_) return std::errc::not_supported;
    std::uint64_t done = 0;
    while (device_.can_zero_ && done < request.length) {
      std::uint64_t length = std::min(kCountMax, request.length - done);
      Result<void> result = methods_.zero(handle_, request.part(done, length), native(fua));
      if (!result.ok()) {
        // This is how a script says that it cannot do it here: the rest is written.
        if (fast || result.error().code != std::errc::not_supported) return result;
        break;
      }
      done += length;
    }
    NBDKIT_TRY(write_zeroes(request.offset + done, request.length - done, native(fua)));
    return finish(fua);
  }

  Result<void> cache(Request request) const {
    for (std::uint64_t done = 0; done < request.length;) {
      std::uint64_t length = std::min(kCountMax, request.length - done);
      NBDKIT_TRY(methods_.cache(handle_, request.part(done, length)));
      done += length;
    }
    return {};
  }

  Result<void> cache_by_reading(Request request) const {
    std::vector<std::byte> scratch(std::min(piece_max(), request.length));
    for (std::uint64_t done = 0; done < request.length;) {
      std::uint64_t length = std::min<std::uint64_t>(scratch.size(), request.length - done);
      NBDKIT_TRY(methods_.pread(handle_, request.offset + done, std::span(scratch).first(length)));
      done += length;
    }
    return {};
  }

 private:
  bool native(bool fua) const { return fua && device_.fua_ == ScriptMode::native; }

  // One flush at the end covers every call of the request.
  Result<void> finish(bool fua) const {
    if (!fua || device_.fua_ != ScriptMode::emulate) return {};
    return methods_.flush(handle_);
  }

  std::uint64_t piece_max() const {
    const BlockSize& block = device_.properties().block_size;
    return block.known() ? std::min<std::uint64_t>(kScratchMax, block.maximum) : kScratchMax;
  }

  Result<void> write_zeroes(std::uint64_t offset, std::uint64_t length, bool fua) const {
    const std::vector<std::byte> zeroes(std::min(piece_max(), length));
    for (std::uint64_t done = 0; done < length;) {
      std::uint64_t piece = std::min<std::uint64_t>(zeroes.size(), length - done);
      NBDKIT_TRY(methods_.pwrite(handle_, offset + done, std::span(zeroes).first(piece), fua));
      done += piece;
    }
    return {};
  }

  const ScriptDevice& device_;
  const ScriptMethods& methods_;
  const std::string& handle_;
};

ScriptDevice::ScriptDevice(std::unique_ptr<ScriptConnection> connection, ScriptHandle opened)
    : BlockDevice(std::move(opened.properties)),
      connection_(std::move(connection)),
      handle_(std::move(opened.handle)),
      can_zero_(opened.can_zero),
      fua_(opened.fua),
      cache_(opened.cache) {}

Task<void> ScriptDevice::pread(Request request, Reply& reply) {
  if (request.length > kDataMax) return read_in_pieces(request, reply);
  Result<std::span<std::byte>> buffer = reply.buffer(request.length);
  if (!buffer.ok()) return Result<void>(std::move(buffer).error());
  std::span<std::byte> bytes = buffer.value();
  return connection_->run([this, bytes, offset = request.offset](const ScriptMethods& methods) {
    return methods.pread(handle_, offset, bytes);
  });
}

Task<void> ScriptDevice::read_in_pieces(Request request, Reply& reply) {
  for (std::uint64_t done = 0; done < request.length;) {
    std::uint64_t length = std::min(kDataMax, request.length - done);
    co_await pread(request.part(done, length), reply);
    done += length;
  }
}

Task<void> ScriptDevice::pwrite(Request request, Payload& payload) {
  Result<void> pinned = payload.pin();
  if (!pinned.ok()) return pinned;
  const bool fua = request.has(RequestFlags::fua);
  return connection_->run(
      [this, &payload, fua, offset = request.offset](const ScriptMethods& methods) {
        return Calls(*this, methods).write(offset, payload.bytes(), fua);
      });
}

Task<void> ScriptDevice::flush() {
  return connection_->run([this](const ScriptMethods& methods) { return methods.flush(handle_); });
}

Task<void> ScriptDevice::trim(Request request) {
  return connection_->run([this, request](const ScriptMethods& methods) {
    return Calls(*this, methods).trim(request);
  });
}

Task<void> ScriptDevice::zero(Request request) {
  if (!properties().can_write) return BlockDevice::zero(request);
  return connection_->run([this, request](const ScriptMethods& methods) {
    return Calls(*this, methods).zero(request);
  });
}

Task<void> ScriptDevice::cache(Request request) {
  if (cache_ == ScriptMode::none) return BlockDevice::cache(request);
  return connection_->run([this, request](const ScriptMethods& methods) {
    Calls calls(*this, methods);
    return cache_ == ScriptMode::native ? calls.cache(request) : calls.cache_by_reading(request);
  });
}

Task<void> ScriptDevice::extents(Request request, Extents& extents) {
  if (!properties().can_extents) return BlockDevice::extents(request, extents);
  std::uint64_t length = std::min(kCountMax, request.length);
  return connection_->run(
      [this, part = request.part(0, length), &extents](const ScriptMethods& methods) {
        return methods.extents(handle_, part, extents);
      });
}

// Nobody waits for an answer, so this is the place where a failure is told.
Task<void> ScriptDevice::close() {
  Result<void> closed =
      co_await connection_
          ->run([this](const ScriptMethods& methods) { return methods.close(handle_); })
          .as_result();
  if (!closed.ok()) connection_->tell(closed.error());
  connection_.reset();
}

}  // namespace nbdkit
