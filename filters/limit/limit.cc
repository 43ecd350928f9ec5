// SPDX-License-Identifier: BSD-3-Clause
// limit: serves no more than so many clients at the same time.

#include <fmt/format.h>

#include <atomic>

#include "block/filter.h"
#include "block/layer.h"
#include "block/native_module.h"

namespace nbdkit {
namespace {

// Of all connections, on any loop.
class Places {
 public:
  bool free(std::uint64_t most) const { return most == 0 || taken_ < most; }
  bool take(std::uint64_t most) {
    if (taken_.fetch_add(1) < most || most == 0) return true;
    leave();
    return false;
  }
  void leave() { taken_.fetch_sub(1); }

 private:
  std::atomic<std::uint64_t> taken_{0};
};

// Holds a place while it is open.
class Counted final : public Filter {
 public:
  Counted(DevicePtr next, Places& places) : Filter(std::move(next)), places_(places) {}

  Task<void> close() override {
    Result<void> closed = co_await next().close().as_result();
    places_.leave();
    if (!closed.ok()) co_await fail(std::move(closed).error());
  }

 private:
  Places& places_;  // The layer's, which outlives every connection.
};

class LimitLayer final : public FilterLayer {
 public:
  Contract contract() const override {
    return {.survives = Survives::durable,
            .shared_open = true,
            .transparent = true,
            .multi_conn = MultiConn::as_below,
            .swap_fit = true};
  }
  std::string_view long_name() const override { return "nbdkit limit filter"; }

  // Who has to leave is told so before he asks for anything.
  Task<void> preconnect(Context& context) override {
    if (!places_.free(most())) co_await fail(too_many());
    co_await below().preconnect(context);
  }

  // Others may have come in between, and sockets that are given need no preconnect().
  Task<DevicePtr> open(Context& context) override {
    if (!places_.take(most())) co_await fail(too_many());
    Result<DevicePtr> device = co_await FilterLayer::open(context).as_result();
    if (!device.ok()) {
      places_.leave();
      co_await fail(std::move(device).error());
    }
    co_return std::move(device).value();
  }

 protected:
  void declare(Params& params) override {
    params.add_number("limit", limit_,
                      {.help = "how many clients at the same time (default 1; 0: any number)"});
  }

  Task<DevicePtr> wrap(Context&, DevicePtr& next) override {
    return Result<DevicePtr>(make_filter<Counted>(std::move(next), places_));
  }

 private:
  std::uint64_t most() const { return static_cast<std::uint64_t>(limit_); }
  Error too_many() const {
    return Error(std::errc::connection_refused,
                 fmt::format("limit: {} clients are served already (limit={})", limit_, limit_));
  }

  std::int64_t limit_ = 1;
  Places places_;
};

}  // namespace
}  // namespace nbdkit

NBDKIT_NATIVE_FILTER("limit", ::nbdkit::LimitLayer)
