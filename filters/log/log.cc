// SPDX-License-Identifier: BSD-3-Clause
// log: writes down every request and what became of it.

#include <atomic>

#include "block/filter.h"
#include "block/layer.h"
#include "block/native_module.h"
#include "journal.h"

namespace nbdkit {
namespace {

// One per connection. An answer goes out only when its line is in the file: who sees the one can
// rely on the other.
class LoggedDevice final : public Filter {
 public:
  LoggedDevice(DevicePtr next, Context& context, Journal& journal)
      : Filter(std::move(next)), context_(context), journal_(journal) {
    connected();
  }

  Task<void> pread(Request request, Reply& reply) override {
    std::uint64_t id = ++requests_;
    write(ranged("Read", id, request));
    Result<void> result = co_await next().pread(request, reply).as_result();
    write(leave("Read", id).outcome(result));
    co_await ended(std::move(result));
  }
  Task<void> pwrite(Request request, Payload& payload) override {
    std::uint64_t id = ++requests_;
    write(ranged("Write", id, request).number("fua", request.has(RequestFlags::fua)));
    Result<void> result = co_await next().pwrite(request, payload).as_result();
    write(leave("Write", id).outcome(result));
    co_await ended(std::move(result));
  }
  Task<void> flush() override {
    std::uint64_t id = ++requests_;
    write(enter("Flush", id));
    Result<void> result = co_await next().flush().as_result();
    write(leave("Flush", id).outcome(result));
    co_await ended(std::move(result));
  }
  Task<void> trim(Request request) override {
    std::uint64_t id = ++requests_;
    write(ranged("Trim", id, request).number("fua", request.has(RequestFlags::fua)));
    Result<void> result = co_await next().trim(request).as_result();
    write(leave("Trim", id).outcome(result));
    co_await ended(std::move(result));
  }
  Task<void> zero(Request request) override {
    std::uint64_t id = ++requests_;
    write(ranged("Zero", id, request)
              .number("trim", request.has(RequestFlags::may_trim))
              .number("fua", request.has(RequestFlags::fua))
              .number("fast", request.has(RequestFlags::fast_zero)));
    Result<void> result = co_await next().zero(request).as_result();
    write(leave("Zero", id).outcome(result));
    co_await ended(std::move(result));
  }
  Task<void> cache(Request request) override {
    std::uint64_t id = ++requests_;
    write(ranged("Cache", id, request));
    Result<void> result = co_await next().cache(request).as_result();
    write(leave("Cache", id).outcome(result));
    co_await ended(std::move(result));
  }
  Task<void> extents(Request request, Extents& extents) override {
    std::uint64_t id = ++requests_;
    write(ranged("Extents", id, request).number("req_one", request.has(RequestFlags::one)));
    Result<void> result = co_await next().extents(request, extents).as_result();
    Event left = leave("Extents", id);
    if (result.ok()) left.extents(extents.list());
    write(left.outcome(result));
    co_await ended(std::move(result));
  }
  Task<void> close() override {
    write(print("Disconnect").number("transactions", requests_));
    co_await journal_.written(context_.loop());
    co_await next().close();
  }

 private:
  Event print(std::string_view action) const {
    return {Event::Type::print, action, context_.connection(), 0};
  }
  Event enter(std::string_view action, std::uint64_t id) const {
    return {Event::Type::enter, action, context_.connection(), id};
  }
  Event leave(std::string_view action, std::uint64_t id) const {
    return {Event::Type::leave, action, context_.connection(), id};
  }
  Event ranged(std::string_view action, std::uint64_t id, const Request& request) const {
    Event event = enter(action, id);
    event.hex("offset", request.offset).hex("count", request.length);
    return event;
  }
  void write(const Event& event) { journal_.write(context_.loop(), event); }

  // The numbers of zero, fua and cache are those of nbdkit's C interface: 2 is "native".
  void connected() {
    const Properties& can = properties();
    bool writes = can.can_write && !context_.read_only;
    write(print("Connect")
              .text("export", context_.export_name)
              .number("tls", context_.tls)
              .hex("size", can.size)
              .hex("minsize", can.block_size.minimum)
              .hex("prefsize", can.block_size.preferred)
              .hex("maxsize", can.block_size.maximum)
              .number("write", writes)
              .number("flush", can.can_flush)
              .number("rotational", can.is_rotational)
              .number("trim", writes && can.can_trim)
              .number("zero", writes ? 2 : 0)
              .number("fua", writes && can.can_fua ? 2 : 0)
              .number("extents", can.can_extents)
              .number("cache", can.can_cache ? 2 : 0)
              .number("fast_zero", writes && can.can_fast_zero));
  }

  Task<void> ended(Result<void> result) {
    co_await journal_.written(context_.loop());
    if (!result.ok()) co_await fail(std::move(result).error());
  }

  Context& context_;
  Journal& journal_;  // The layer's.
  std::uint64_t requests_ = 0;
};

class LogLayer final : public FilterLayer {
 public:
  Contract contract() const override {
    return {.survives = Survives::durable,
            .shared_open = true,
            .transparent = true,
            .multi_conn = MultiConn::as_below};
  }
  std::string_view long_name() const override { return "nbdkit log filter"; }

  Result<void> get_ready() override {
    NBDKIT_TRY(journal_.open(file_, append_, script_, log()));
    constexpr std::uint64_t kParallel = 3;  // nbdkit's number for "requests at the same time"
    journal_.write_now(Event(Event::Type::print, "Ready", 0, 0).number("thread_model", kParallel));
    return {};
  }
  Result<void> after_fork() override {
    journal_.write_now(Event(Event::Type::print, "Fork", 0, 0));
    return {};
  }
  void cleanup() override { journal_.finish(); }

  Task<void> preconnect(Context& context) override {
    if (!active()) co_return co_await below().preconnect(context);
    std::uint64_t id = ++preconnects_;
    journal_.write(
        context.loop(),
        Event(Event::Type::enter, "Preconnect", 0, id).number("readonly", context.read_only));
    Result<void> result = co_await below().preconnect(context).as_result();
    journal_.write(context.loop(), Event(Event::Type::leave, "Preconnect", 0, id).outcome(result));
    co_await journal_.written(context.loop());
    if (!result.ok()) co_await fail(std::move(result).error());
  }

  Task<std::vector<ExportEntry>> list_exports(Context& context) override {
    if (!active()) co_return co_await below().list_exports(context);
    std::uint64_t id = ++lists_;
    journal_.write(context.loop(), Event(Event::Type::enter, "ListExports", 0, id)
                                       .number("readonly", context.read_only)
                                       .number("tls", context.tls));
    Result<std::vector<ExportEntry>> exports = co_await below().list_exports(context).as_result();
    journal_.write(context.loop(), listed(id, exports));
    co_await journal_.written(context.loop());
    if (!exports.ok()) co_await fail(std::move(exports).error());
    co_return std::move(exports).value();
  }

 protected:
  void declare(Params& params) override {
    params.add_path("logfile", file_, {.help = "write the log to this file"});
    params.add_bool("logappend", append_, {.help = "keep what is in the file (default false)"});
    params.add_text("logscript", script_, {.help = "run this with /bin/sh for every line"});
  }

  Task<DevicePtr> wrap(Context& context, DevicePtr& next) override {
    if (!active()) return Result<DevicePtr>(std::move(next));
    return Result<DevicePtr>(make_filter<LoggedDevice>(std::move(next), context, journal_));
  }

 private:
  bool active() const { return !file_.empty() || !script_.empty(); }

  static Event listed(std::uint64_t id, const Result<std::vector<ExportEntry>>& exports) {
    Event event(Event::Type::leave, "ListExports", 0, id);
    if (!exports.ok()) return event.outcome(Error(exports.error().code, {}));
    return event.exports(exports.value()).outcome({});
  }

  std::string file_;
  std::string script_;
  bool append_ = false;
  Journal journal_;
  std::atomic<std::uint64_t> preconnects_{0};
  std::atomic<std::uint64_t> lists_{0};
};

}  // namespace
}  // namespace nbdkit

NBDKIT_NATIVE_FILTER("log", ::nbdkit::LogLayer)
