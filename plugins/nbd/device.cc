// SPDX-License-Identifier: BSD-3-Clause
#include "device.h"

#include <fmt/format.h>

#include <utility>
#include <vector>

namespace nbdkit {
namespace {

std::uint16_t command_flags(Request request) {
  std::uint16_t flags = 0;
  if (request.has(RequestFlags::fua)) flags |= command_flag::kFua;
  if (request.has(RequestFlags::fast_zero)) flags |= command_flag::kFastZero;
  if (request.has(RequestFlags::one)) flags |= command_flag::kReqOne;
  return flags;
}

std::uint16_t zero_flags(Request request) {
  bool stays = !request.has(RequestFlags::may_trim);
  return command_flags(request) | (stays ? command_flag::kNoHole : std::uint16_t{0});
}

bool can_zero(const ClientAgreement& agreement) {
  return agreement.has(transmission_flag::kWriteZeroes);
}

Result<void> add_extents(std::uint64_t offset, const std::vector<StatusExtent>& from,
                         Extents& extents) {
  for (const StatusExtent& extent : from) {
    NBDKIT_TRY(extents.add(offset, extent.length, static_cast<ExtentType>(extent.flags)));
    offset += extent.length;
  }
  return {};
}

template <typename Start>
class StartedAtHome final : public HomeCall {
 public:
  StartedAtHome(Home& home, Loop& own, Start& start) : HomeCall(home, own), start_(start) {}
  virtual ~StartedAtHome() = default;

 private:
  Task<void> begin(RemoteExport& remote) override { return start_(remote); }

  Start& start_;
};

template <typename Start>
Task<void> ask_at_home(Home& home, Loop& own, Start start) {
  StartedAtHome<Start> call(home, own, start);
  Result<void> result = co_await call;
  if (!result.ok()) co_await fail(std::move(result).error());
}

}  // namespace

Properties properties_of(const ClientAgreement& agreement, const std::string& address) {
  const bool writes = !agreement.has(transmission_flag::kReadOnly);
  Properties properties;
  properties.size = agreement.size;
  properties.can_write = writes;
  properties.can_flush = agreement.has(transmission_flag::kFlush);
  properties.can_fua = writes && agreement.has(transmission_flag::kFua);
  properties.can_trim = writes && agreement.has(transmission_flag::kTrim);
  properties.can_fast_zero =
      writes && can_zero(agreement) && agreement.has(transmission_flag::kFastZero);
  properties.can_cache = agreement.has(transmission_flag::kCache);
  properties.can_extents = agreement.base_allocation.has_value();
  properties.can_multi_conn = agreement.has(transmission_flag::kMultiConn);
  properties.is_rotational = agreement.has(transmission_flag::kRotational);
  if (agreement.block_sizes) {
    const ExportAnswer::BlockSizes& sizes = *agreement.block_sizes;
    properties.block_size = {sizes.minimum, sizes.preferred, sizes.maximum};
  }
  properties.description = agreement.description;
  properties.identity = fmt::format("nbd {} {}", address, agreement.size);
  return properties;
}

RemoteDevice::RemoteDevice(Context& context, std::unique_ptr<RemoteExport> own,
                           Properties properties)
    : BlockDevice(std::move(properties)),
      context_(context),
      own_(std::move(own)),
      remote_(*own_),
      told_(remote_.times_lost()) {}

RemoteDevice::RemoteDevice(Context& context, Home& home, Properties properties)
    : BlockDevice(std::move(properties)),
      context_(context),
      remote_(home.remote()),
      home_(&home),
      told_(remote_.times_lost()) {}

template <typename Start>
Task<void> RemoteDevice::ask(Start start) {
  return home_ == nullptr ? start(remote_) : ask_at_home(*home_, context_.loop(), std::move(start));
}

Task<void> RemoteDevice::pread(Request request, Reply& reply) {
  auto buffer = reply.buffer(static_cast<std::size_t>(request.length));
  if (!buffer.ok()) return Result<void>(std::move(buffer).error());
  return ask([offset = request.offset, into = buffer.value()](RemoteExport& remote) {
    return remote.read(offset, into);
  });
}

// The bytes must stay where they are until they have been sent, and until the answer says that they
// need not be sent again.
Task<void> RemoteDevice::pwrite(Request request, Payload& payload) {
  Result<void> pinned = payload.pin();
  if (!pinned.ok()) return pinned;
  return ask([request, from = payload.bytes()](RemoteExport& remote) {
    return remote.write(request.offset, from, command_flags(request));
  });
}

Task<void> RemoteDevice::flush() {
  return ask([this](RemoteExport& remote) { return remote.flush(told_); });
}

Task<void> RemoteDevice::trim(Request request) {
  return ask([request](RemoteExport& remote) {
    return remote.trim(request.offset, request.length, command_flags(request));
  });
}

Task<void> RemoteDevice::zero(Request request) {
  if (!can_zero(remote_.agreement())) {
    return zero_by_writing(*this, request, context_.buffers());
  }
  return ask([request](RemoteExport& remote) {
    return remote.zero(request.offset, request.length, zero_flags(request));
  });
}

Task<void> RemoteDevice::cache(Request request) {
  return ask(
      [request](RemoteExport& remote) { return remote.cache(request.offset, request.length); });
}

Task<void> RemoteDevice::extents(Request request, Extents& extents) {
  if (!remote_.agreement().base_allocation)
    co_return co_await BlockDevice::extents(request, extents);
  std::vector<StatusExtent> found;
  co_await ask([request, &found](RemoteExport& remote) {
    return remote.extents(request.offset, request.length, command_flags(request), found);
  });
  Result<void> added = add_extents(request.offset, found, extents);
  if (!added.ok()) co_await fail(std::move(added).error());
}

Task<void> RemoteDevice::close() { return own_ ? own_->close() : Result<void>(); }

}  // namespace nbdkit
