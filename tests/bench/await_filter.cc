// SPDX-License-Identifier: BSD-3-Clause
// await: a filter whose reads and writes are coroutines that await the layer below, and do nothing
// else: what tools/bench measures the cost of a layer with.
#include <utility>

#include "block/filter.h"
#include "block/layer.h"
#include "block/native_module.h"

namespace nbdkit {
namespace {

class Await final : public Filter {
 public:
  explicit Await(DevicePtr next) : Filter(std::move(next)) {}

  Task<void> pread(Request request, Reply& reply) override {
    co_await next().pread(request, reply);
  }
  Task<void> pwrite(Request request, Payload& payload) override {
    co_await next().pwrite(request, payload);
  }
};

class AwaitLayer final : public FilterLayer {
 public:
  Contract contract() const override { return {.transparent = true}; }
  Task<DevicePtr> wrap(Context&, DevicePtr& next) override {
    return Task<DevicePtr>(make_filter<Await>(std::move(next)));
  }
};

}  // namespace
}  // namespace nbdkit

NBDKIT_NATIVE_FILTER("await", ::nbdkit::AwaitLayer)
