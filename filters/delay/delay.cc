// SPDX-License-Identifier: BSD-3-Clause
// delay: makes requests slow, to play a slow or remote disk and to look for races.

#include "block/filter.h"
#include "block/layer.h"
#include "block/native_module.h"

namespace nbdkit {
namespace {

struct Delays {
  Nanoseconds read{0};
  Nanoseconds write{0};
  Nanoseconds zero{0};
  Nanoseconds trim{0};
  Nanoseconds extents{0};
  Nanoseconds cache{0};
  Nanoseconds open{0};
  Nanoseconds close{0};
  bool fast_zero = true;
};

// One per connection. A request sleeps on its loop's timers: no thread waits with it.
class Delay final : public Filter {
 public:
  Delay(DevicePtr next, Properties properties, Context& context, const Delays& delays)
      : Filter(std::move(next), std::move(properties)), context_(context), delays_(delays) {}

  Task<void> pread(Request request, Reply& reply) override {
    if (delays_.read != Nanoseconds(0)) co_await context_.sleep(delays_.read);
    co_await next().pread(request, reply);
  }
  // The engine may move the payload while this sleeps: it is looked at only further down.
  Task<void> pwrite(Request request, Payload& payload) override {
    if (delays_.write != Nanoseconds(0)) co_await context_.sleep(delays_.write);
    co_await next().pwrite(request, payload);
  }
  Task<void> trim(Request request) override {
    if (delays_.trim != Nanoseconds(0)) co_await context_.sleep(delays_.trim);
    co_await next().trim(request);
  }
  Task<void> zero(Request request) override {
    if (delays_.zero != Nanoseconds(0)) {
      // A client asks for fast zeroes in order to hear a no at once.
      bool refused = request.has(RequestFlags::fast_zero) && !delays_.fast_zero;
      if (refused) co_await fail(std::errc::not_supported);
      co_await context_.sleep(delays_.zero);
    }
    co_await next().zero(request);
  }
  Task<void> cache(Request request) override {
    if (delays_.cache != Nanoseconds(0)) co_await context_.sleep(delays_.cache);
    co_await next().cache(request);
  }
  Task<void> extents(Request request, Extents& extents) override {
    if (delays_.extents != Nanoseconds(0)) co_await context_.sleep(delays_.extents);
    co_await next().extents(request, extents);
  }
  Task<void> close() override {
    if (delays_.close != Nanoseconds(0)) {
      Gate own(context_.loop());  // The connection's has closed by now.
      co_await context_.loop().sleep(delays_.close, own);
    }
    co_await next().close();
  }

 private:
  Context& context_;
  const Delays& delays_;  // The layer's, which outlives every connection.
};

class DelayLayer final : public FilterLayer {
 public:
  Contract contract() const override {
    return {.survives = Survives::durable,
            .shared_open = true,
            .transparent = true,
            .multi_conn = MultiConn::as_below,
            .swap_fit = true};
  }
  std::string_view long_name() const override { return "nbdkit delay filter"; }

  Task<DevicePtr> open(Context& context) override {
    if (delays_.open != Nanoseconds(0)) co_await context.sleep(delays_.open);
    co_return co_await FilterLayer::open(context);
  }

 protected:
  void declare(Params& params) override {
    Delays& d = delays_;
    params.add_delay("rdelay", d.read, {.help = "delay reads"});
    params.add("wdelay", "DELAY", [&d](std::string_view value) { return set_writes(d, value); },
               {.help = "delay writes, zeroes and trims"});
    params.add_delay("delay-read", d.read, {.help = "delay reads", .alias = "delay-reads"});
    params.add_delay("delay-write", d.write, {.help = "delay writes", .alias = "delay-writes"});
    params.add_delay("delay-zero", d.zero, {.help = "delay zeroes", .alias = "delay-zeroes"});
    params.add_delay("delay-trim", d.trim, {.help = "delay trims", .alias = "delay-trims"});
    params.add_delay("delay-discard", d.trim,
                     {.help = "the same as delay-trim", .alias = "delay-discards"});
    params.add_delay("delay-extents", d.extents,
                     {.help = "delay block status", .alias = "delay-extent"});
    params.add_delay("delay-cache", d.cache, {.help = "delay cache requests"});
    params.add_delay("delay-open", d.open, {.help = "delay the opening of connections"});
    params.add_delay("delay-close", d.close, {.help = "delay the closing of connections"});
    params.add_bool("delay-fast-zero", d.fast_zero,
                    {.help = "false: fast zeroes fail at once (default true)"});
  }

  Task<DevicePtr> wrap(Context& context, DevicePtr& next) override {
    Properties properties = next->properties();
    // Failing at once keeps the promise that can_fast_zero makes, whatever is below.
    if (!delays_.fast_zero && delays_.zero != Nanoseconds(0)) {
      properties.can_fast_zero = properties.can_write;
    }
    return Result<DevicePtr>(
        make_filter<Delay>(std::move(next), std::move(properties), context, delays_));
  }

 private:
  static Result<void> set_writes(Delays& delays, std::string_view value) {
    Result<Nanoseconds> delay = parse_delay(value);
    if (!delay.ok()) return std::move(delay).error();
    delays.write = delays.zero = delays.trim = delay.value();
    return {};
  }

  Delays delays_;
};

}  // namespace
}  // namespace nbdkit

NBDKIT_NATIVE_FILTER("delay", ::nbdkit::DelayLayer)
