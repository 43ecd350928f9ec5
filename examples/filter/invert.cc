// SPDX-License-Identifier: BSD-3-Clause
// invert: stores every byte changed, and changes it back when it is read.

#include <algorithm>

#include "block/filter.h"
#include "block/layer.h"
#include "block/native_module.h"

namespace nbdkit {
namespace {

// One per connection, used from its loop only.
class Invert final : public Filter {
 public:
  Invert(DevicePtr next, Properties properties, Context& context, const std::int64_t& mask)
      : Filter(std::move(next), std::move(properties)), context_(context), mask_(mask) {}

  Task<void> pread(Request request, Reply& reply) override {
    Reply stored(context_.buffers(), context_.connection());
    co_await next().pread(request, stored);
    Result<std::span<std::byte>> bytes = stored.mutable_bytes();
    if (!bytes.ok()) co_await fail(std::move(bytes).error());
    change(bytes.value());
    reply.append(stored);
  }

  // The payload is the client's: what is written below must be a copy.
  Task<void> pwrite(Request request, Payload& payload) override {
    Result<Buffer> copy = payload.new_buffer(request.length);
    if (!copy.ok()) co_await fail(std::move(copy).error());
    std::ranges::copy(payload.bytes(), copy.value().bytes().begin());
    change(copy.value().bytes());
    Payload changed(std::move(copy).value(), payload.pool(), payload.owner());
    co_await next().pwrite(request, changed);
  }

  // What reads as zeroes here is something else below, so zeroes must be written.
  Task<void> zero(Request request) override {
    if (request.has(RequestFlags::fast_zero)) co_await fail(std::errc::not_supported);
    co_await zero_by_writing(*this, request, context_.buffers());
  }

  // For the same reason nothing here is known to be zero. A device says "all data" by itself.
  Task<void> extents(Request request, Extents& extents) override {
    return BlockDevice::extents(request, extents);
  }

  // flush(), trim() and cache() are not named here: they go straight to the layer below.

 private:
  void change(std::span<std::byte> bytes) const {
    for (std::byte& byte : bytes) byte ^= static_cast<std::byte>(mask_);
  }

  Context& context_;
  const std::int64_t& mask_;  // The layer's, which outlives every connection.
};

// One per process: the parameters and what all connections share.
class InvertLayer final : public FilterLayer {
 public:
  Contract contract() const override {
    return {.survives = Survives::durable,  // Holds back nothing that was answered.
            .shared_open = true,            // Two processes may use it on the same data.
            .multi_conn = MultiConn::as_below};
  }
  std::string_view long_name() const override { return "example filter"; }

 protected:
  void declare(Params& params) override {
    params.add_number("invert-mask", mask_,
                      {.help = "the bits to invert in every byte (default 255)", .max = 255});
  }

  Task<DevicePtr> wrap(Context& context, DevicePtr& next) override {
    Properties properties = next->properties();
    properties.can_fast_zero = properties.can_write;  // Refusing is fast.
    return Result<DevicePtr>(
        make_filter<Invert>(std::move(next), std::move(properties), context, mask_));
  }

 private:
  std::int64_t mask_ = 255;
};

}  // namespace
}  // namespace nbdkit

NBDKIT_NATIVE_FILTER("invert", ::nbdkit::InvertLayer)
