// SPDX-License-Identifier: BSD-3-Clause
// exitlast: ends the server when the last client has left.

#include <atomic>

#include "block/filter.h"
#include "block/layer.h"
#include "block/native_module.h"

namespace nbdkit {
namespace {

class ExitlastLayer final : public FilterLayer {
 public:
  Contract contract() const override {
    return {.survives = Survives::durable,
            .shared_open = true,
            .transparent = true,
            .multi_conn = MultiConn::as_below,
            .swap_fit = true};
  }
  std::string_view long_name() const override { return "nbdkit exitlast filter"; }

  void left() {
    if (clients_.fetch_sub(1) == 1) environment().shut_down();
  }

 protected:
  Task<DevicePtr> wrap(Context&, DevicePtr& next) override;

 private:
  std::atomic<std::uint64_t> clients_{0};  // on any loop
};

class Watched final : public Filter {
 public:
  Watched(DevicePtr next, ExitlastLayer& layer) : Filter(std::move(next)), layer_(layer) {}

  Task<void> close() override {
    Result<void> closed = co_await next().close().as_result();
    layer_.left();
    if (!closed.ok()) co_await fail(std::move(closed).error());
  }

 private:
  ExitlastLayer& layer_;  // Outlives every connection.
};

Task<DevicePtr> ExitlastLayer::wrap(Context&, DevicePtr& next) {
  ++clients_;
  return Result<DevicePtr>(make_filter<Watched>(std::move(next), *this));
}

}  // namespace
}  // namespace nbdkit

NBDKIT_NATIVE_FILTER("exitlast", ::nbdkit::ExitlastLayer)
