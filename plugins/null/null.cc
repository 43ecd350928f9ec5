// SPDX-License-Identifier: BSD-3-Clause
// null: reads as zeroes and forgets what is written.

#include "block/layer.h"
#include "block/native_module.h"

namespace nbdkit {
namespace {

class Null final : public BlockDevice {
 public:
  using BlockDevice::BlockDevice;

  Task<void> pread(Request request, Reply& reply) override {
    reply.hole(request.length);
    return Result<void>();
  }
  Task<void> pwrite(Request, Payload&) override { return Result<void>(); }
  Task<void> flush() override { return Result<void>(); }
  Task<void> trim(Request) override { return Result<void>(); }
  Task<void> zero(Request) override { return Result<void>(); }
  Task<void> cache(Request) override { return Result<void>(); }
  Task<void> extents(Request request, Extents& extents) override {
    return extents.add(request.offset, request.length, ExtentType::hole_and_zero);
  }
};

class NullLayer final : public Layer {
 public:
  // Nothing that was written is ever promised back, so a restart loses nothing.
  Contract contract() const override {
    return {.survives = Survives::durable, .shared_open = true, .swap_fit = true};
  }
  std::string_view long_name() const override { return "nbdkit null plugin"; }

  Task<DevicePtr> open(Context& context) override {
    Properties properties;
    properties.size = static_cast<std::uint64_t>(size_);
    properties.can_write = !context.read_only;
    properties.can_flush = true;
    properties.can_fua = true;
    properties.can_trim = true;
    properties.can_fast_zero = true;
    properties.can_cache = true;
    properties.can_extents = true;
    properties.can_multi_conn = true;
    properties.identity = "null";
    return Result<DevicePtr>(std::make_unique<Null>(std::move(properties)));
  }

 protected:
  void declare(Params& params) override {
    params.add_size("size", size_, {.help = "size of the disk (default 0)", .magic = true});
  }

 private:
  std::int64_t size_ = 0;
};

}  // namespace
}  // namespace nbdkit

NBDKIT_NATIVE_PLUGIN("null", ::nbdkit::NullLayer)
