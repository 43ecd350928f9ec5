// SPDX-License-Identifier: BSD-3-Clause
// offset: serves the range [offset, offset + range) of what is below.

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "base/range.h"
#include "block/filter.h"
#include "block/layer.h"
#include "block/native_module.h"

namespace nbdkit {
namespace {

class Window final : public Filter {
 public:
  Window(DevicePtr next, Properties properties, std::uint64_t offset)
      : Filter(std::move(next), std::move(properties)), offset_(offset) {}

  Task<void> pread(Request request, Reply& reply) override {
    return next().pread(shifted(request), reply);
  }
  Task<void> pwrite(Request request, Payload& payload) override {
    return next().pwrite(shifted(request), payload);
  }
  Task<void> trim(Request request) override { return next().trim(shifted(request)); }
  Task<void> zero(Request request) override { return next().zero(shifted(request)); }
  Task<void> cache(Request request) override { return next().cache(shifted(request)); }

  Task<void> extents(Request request, Extents& extents) override {
    Extents below(request.offset + offset_, extents.end() + offset_);
    co_await next().extents(shifted(request), below);
    for (const Extent& extent : below.list()) {
      Result<void> added = extents.add(extent.offset - offset_, extent.length, extent.type);
      if (!added.ok()) co_await fail(std::move(added).error());
    }
  }

 private:
  Request shifted(Request request) const { return request.at(request.offset + offset_); }

  const std::uint64_t offset_;
};

class OffsetLayer final : public FilterLayer {
 public:
  Contract contract() const override {
    return {.survives = Survives::durable,
            .shared_open = true,
            .transparent = false,
            .multi_conn = MultiConn::as_below,
            .swap_fit = true};
  }
  std::string_view long_name() const override { return "nbdkit offset filter"; }

  Result<void> get_ready() override {
    Result<std::uint32_t> minimum = below().minimum_block();
    if (!minimum.ok()) return std::move(minimum).error();
    return check_range(minimum.value());
  }

 protected:
  void declare(Params& params) override {
    params.add_size("offset", offset_, {.help = "where to begin (default 0)"});
    params.add_size("range", range_, {.help = "how much to serve (default: to the end)"});
  }

  Task<DevicePtr> wrap(Context&, DevicePtr& next) override {
    Result<Properties> properties = of_range(next->properties());
    if (!properties.ok()) return Result<DevicePtr>(std::move(properties).error());
    return Result<DevicePtr>(make_filter<Window>(std::move(next), std::move(properties).value(),
                                                 static_cast<std::uint64_t>(offset_)));
  }

 private:
  static constexpr std::int64_t kToTheEnd = -1;

  Result<Properties> of_range(Properties properties) const {
    auto offset = static_cast<std::uint64_t>(offset_);
    if (offset > properties.size) {
      return out_of_range(fmt::format("offset={}", offset), properties.size);
    }
    std::uint64_t rest = properties.size - offset;
    std::uint64_t range = range_ == kToTheEnd ? rest : static_cast<std::uint64_t>(range_);
    if (range > rest) {
      return out_of_range(fmt::format("offset={} range={}", offset, range), properties.size);
    }
    if (properties.block_size.known()) {
      BlockSize& blocks = properties.block_size;
      NBDKIT_TRY(check_range(blocks.minimum));
      blocks.preferred = preferred_at(offset, blocks);
    }
    properties.size = range;
    return properties;
  }

  static Error out_of_range(const std::string& what, std::uint64_t size) {
    return Error(std::errc::invalid_argument,
                 fmt::format("offset: {} lies beyond the end of what is below, which has {} bytes; "
                             "choose a smaller range",
                             what, size));
  }

  // Requests that a client aligns well would arrive below unaligned, and be refused there or torn.
  Result<void> check_range(std::uint32_t minimum) const {
    NBDKIT_TRY(check_aligned("offset", static_cast<std::uint64_t>(offset_), minimum));
    if (range_ == kToTheEnd) return {};
    return check_aligned("range", static_cast<std::uint64_t>(range_), minimum);
  }

  static Result<void> check_aligned(std::string_view key, std::uint64_t value,
                                    std::uint32_t minimum) {
    if (is_aligned(value, minimum)) return {};
    return Error(
        std::errc::invalid_argument,
        fmt::format("offset: {}={} is no multiple of {}, the smallest block that the layer "
                    "below serves; choose a multiple, or put --filter=blocksize below this "
                    "filter",
                    key, value, minimum));
  }

  // What is preferred below is of no use when no request can be aligned to it any more.
  static std::uint32_t preferred_at(std::uint64_t offset, const BlockSize& blocks) {
    if (offset == 0) return blocks.preferred;
    constexpr std::uint32_t kPreferredMin = 512;  // NBD protocol, "Block size constraints"
    std::uint64_t alignment = std::uint64_t{1} << std::countr_zero(offset);
    auto best = static_cast<std::uint32_t>(std::min<std::uint64_t>(blocks.preferred, alignment));
    return std::max({best, kPreferredMin, blocks.minimum});
  }

  std::int64_t offset_ = 0;
  std::int64_t range_ = kToTheEnd;
};

}  // namespace
}  // namespace nbdkit

NBDKIT_NATIVE_FILTER("offset", ::nbdkit::OffsetLayer)
