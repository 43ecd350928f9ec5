// SPDX-License-Identifier: BSD-3-Clause
// blocksize: takes any request and passes on whole blocks, and not too many of them at once.

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <optional>

#include "async/range_lock.h"
#include "base/range.h"
#include "block/filter.h"
#include "block/layer.h"
#include "block/native_module.h"

namespace nbdkit {
namespace {

// What requests below keep to, in bytes.
struct Limits {
  std::uint64_t block = 1;       // power of 2, at most kBlockMax: offsets and lengths are multiples
  std::uint64_t data_max = 0;    // reads and writes; a multiple of block
  std::uint64_t length_max = 0;  // everything else; a multiple of block
};

// A block that several extents share has only what all of them promise.
class BlockMerger {
 public:
  // `start` is the beginning of a block.
  BlockMerger(Extents& out, std::uint64_t start, std::uint64_t block)
      : out_(out), at_(start), block_(block) {}

  Result<void> add(const Extent& extent) {
    std::uint64_t end = extent.offset + extent.length;
    if (shared_) {
      shared_ = both(*shared_, extent.type);
      if (end < at_ + block_) return {};
      NBDKIT_TRY(finish_block(*shared_));
    }
    std::uint64_t whole = round_down(end, block_);
    if (whole > at_) {
      NBDKIT_TRY(out_.add(at_, whole - at_, extent.type));
      at_ = whole;
    }
    if (end > at_) shared_ = extent.type;
    return {};
  }

  // Nothing is known about the rest of a block that was begun, so it may be data. An answer may be
  // short, but not empty.
  Result<void> end() {
    if (!shared_ || !out_.list().empty()) return {};
    return finish_block(ExtentType::data);
  }

 private:
  static ExtentType both(ExtentType a, ExtentType b) {
    return static_cast<ExtentType>(static_cast<std::uint32_t>(a) & static_cast<std::uint32_t>(b));
  }
  Result<void> finish_block(ExtentType type) {
    NBDKIT_TRY(out_.add(at_, block_, type));
    at_ += block_;
    shared_.reset();
    return {};
  }

  Extents& out_;
  std::uint64_t at_;
  const std::uint64_t block_;
  std::optional<ExtentType> shared_;  // What the extents that began in the block at at_ promise.
};

// One per connection. Whoever changes a part of a block reads it, changes it and writes it back. If
// another write reached that block in between it would be undone, so the one locks its blocks
// against everybody else, and writers of whole blocks lock theirs against only such.
class Blocksize final : public Filter {
 public:
  Blocksize(DevicePtr next, Properties properties, Context& context, Limits limits,
            RangeLock& locks)
      : Filter(std::move(next), std::move(properties)),
        context_(context),
        limits_(limits),
        locks_(locks) {}

  Task<void> pread(Request request, Reply& reply) override {
    if (fits(request, limits_.data_max)) return next().pread(request, reply);
    return read_blocks(request, reply);
  }
  Task<void> pwrite(Request request, Payload& payload) override {
    if (limits_.block == 1 && request.length <= limits_.data_max) {
      return next().pwrite(request, payload);
    }
    return write_pieces(request, payload);
  }
  Task<void> zero(Request request) override {
    if (limits_.block == 1 && request.length <= limits_.length_max) return next().zero(request);
    return zero_pieces(request);
  }
  // What a trimmed range reads as is undefined, so trims need no lock, and parts of blocks may
  // stay.
  Task<void> trim(Request request) override {
    std::uint64_t start = up(request.offset);
    std::uint64_t end = down(request.end());
    if (start >= end) return Result<void>();
    return trim_pieces(Request(Offset{start}, end - start, request.flags));
  }
  Task<void> cache(Request request) override { return cache_pieces(around(request)); }

  Task<void> extents(Request request, Extents& extents) override {
    if (limits_.block == 1 && request.length <= limits_.length_max) {
      return next().extents(request, extents);
    }
    return extents_of_blocks(request, extents);
  }

 private:
  std::uint64_t down(std::uint64_t n) const { return round_down(n, limits_.block); }
  std::uint64_t up(std::uint64_t n) const { return round_up(n, limits_.block); }
  bool whole_blocks(const Request& request) const {
    return is_aligned(request.offset | request.length, limits_.block);
  }
  bool fits(const Request& request, std::uint64_t max) const {
    return whole_blocks(request) && request.length <= max;
  }
  // The blocks that the request touches. The device's size is a multiple of a block.
  Request around(const Request& request) const {
    std::uint64_t start = down(request.offset);
    return {Offset{start}, up(request.end()) - start, request.flags};
  }
  // The next thing to do of a request of which `done` bytes are done: a part of one block, or as
  // many whole blocks as may go at once.
  Request piece_at(const Request& request, std::uint64_t done, std::uint64_t max) const {
    std::uint64_t at = request.offset + done;
    std::uint64_t left = request.length - done;
    std::uint64_t to_block_end = up(at + 1) - at;
    bool in_one_block = down(at) != at || left < limits_.block;
    std::uint64_t length = in_one_block ? std::min(to_block_end, left) : std::min(down(left), max);
    return request.part(done, length);
  }
  RangeLock::Mode lock_mode(const Request& request) const {
    return whole_blocks(request) ? RangeLock::Mode::shared : RangeLock::Mode::exclusive;
  }

  Task<void> read_blocks(Request request, Reply& reply) {
    Reply all(context_.buffers(), context_.connection());  // A failure leaves nothing in `reply`.
    Request blocks = around(request);
    for (std::uint64_t done = 0; done < blocks.length;) {
      Request piece = blocks.part(done, std::min(limits_.data_max, blocks.length - done));
      Reply data(context_.buffers(), context_.connection());
      co_await next().pread(piece, data);
      std::uint64_t from = std::max(request.offset, piece.offset);
      std::uint64_t to = std::min(request.end(), piece.end());
      all.append_part(data, from - piece.offset, to - from);
      done += piece.length;
    }
    reply.append(all);
  }

  Task<void> write_pieces(Request request, Payload& payload) {
    Request blocks = around(request);
    RangeLock::Hold hold(locks_, context_.loop(), blocks.offset, blocks.end(), lock_mode(request));
    if (limits_.block > 1) co_await hold;
    for (std::uint64_t done = 0; done < request.length;) {
      Request piece = piece_at(request, done, limits_.data_max);
      Payload part = payload.part(done, piece.length);
      if (whole_blocks(piece)) {
        co_await next().pwrite(piece, part);
      } else {
        co_await change_block(piece, &part);
      }
      done += piece.length;
    }
  }

  Task<void> zero_pieces(Request request) {
    // Reading and writing back is what a client that asks for fast zeroes does not want.
    if (request.has(RequestFlags::fast_zero) && !whole_blocks(request)) {
      co_await fail(std::errc::not_supported);
    }
    Request blocks = around(request);
    RangeLock::Hold hold(locks_, context_.loop(), blocks.offset, blocks.end(), lock_mode(request));
    if (limits_.block > 1) co_await hold;
    for (std::uint64_t done = 0; done < request.length;) {
      Request piece = piece_at(request, done, limits_.length_max);
      if (whole_blocks(piece)) {
        co_await next().zero(piece);
      } else {
        co_await change_block(piece, nullptr);
      }
      done += piece.length;
    }
  }

  // Writes `data`, or zeroes when there is none, into a part of one block. The caller holds the
  // lock of the block and owns `data`. FUA speaks only of the write that carries it, so every one
  // does.
  Task<void> change_block(Request piece, Payload* data) {
    Request block = around(piece);
    Reply old(context_.buffers(), context_.connection());
    co_await next().pread(block.with(RequestFlags::none), old);
    Result<std::span<std::byte>> bytes = old.mutable_bytes();
    if (!bytes.ok()) co_await fail(std::move(bytes).error());
    std::byte* to = bytes.value().data() + (piece.offset - block.offset);
    if (data != nullptr) {
      std::memcpy(to, data->bytes().data(), piece.length);
    } else {
      std::memset(to, 0, piece.length);
    }
    Payload changed(bytes.value(), context_.buffers(), context_.connection());
    co_await next().pwrite(block.with(piece.flags & RequestFlags::fua), changed);
  }

  Task<void> trim_pieces(Request request) {
    for (std::uint64_t done = 0; done < request.length;) {
      Request piece = request.part(done, std::min(limits_.length_max, request.length - done));
      co_await next().trim(piece);
      done += piece.length;
    }
  }
  Task<void> cache_pieces(Request request) {
    for (std::uint64_t done = 0; done < request.length;) {
      Request piece = request.part(done, std::min(limits_.length_max, request.length - done));
      co_await next().cache(piece);
      done += piece.length;
    }
  }

  // One question below is enough: the answer may be shorter than what was asked for.
  Task<void> extents_of_blocks(Request request, Extents& extents) {
    Request blocks = around(request);
    blocks.length = std::min(blocks.length, limits_.length_max);
    Extents found(blocks.offset, properties().size);
    co_await next().extents(blocks, found);
    BlockMerger merger(extents, blocks.offset, limits_.block);
    for (const Extent& extent : found.list()) {
      Result<void> added = merger.add(extent);
      if (!added.ok()) co_await fail(std::move(added).error());
    }
    Result<void> ended = merger.end();
    if (!ended.ok()) co_await fail(std::move(ended).error());
  }

  Context& context_;
  const Limits limits_;
  RangeLock& locks_;  // The layer's.
};

class BlocksizeLayer final : public FilterLayer {
 public:
  // Not shared_open: the locks do not reach into another process.
  Contract contract() const override {
    return {.survives = Survives::durable, .transparent = true, .multi_conn = MultiConn::as_below};
  }
  Result<std::uint32_t> minimum_block() override { return std::uint32_t{1}; }
  std::string_view long_name() const override { return "nbdkit blocksize filter"; }

  Result<void> configured() override {
    if (minblock_ == 0) return {};
    if (!is_power_of_2(static_cast<std::uint64_t>(minblock_))) {
      return invalid(fmt::format("minblock={} must be a power of 2", minblock_));
    }
    NBDKIT_TRY(check_multiple("maxdata", maxdata_));
    return check_multiple("maxlen", maxlen_);
  }

 protected:
  void declare(Params& params) override {
    params.add_size("minblock", minblock_,
                    {.help = "smallest block, power of 2 (default: what the layer below needs)",
                     .min = 1,
                     .max = kBlockMax});
    params.add_size(
        "maxdata", maxdata_,
        {.help = "most bytes in a read or write (default 64M)", .min = 1, .max = kLengthMax});
    params.add_size("maxlen", maxlen_,
                    {.help = "most bytes in any other request (default 4G - minblock)",
                     .min = 1,
                     .max = kLengthMax});
  }

  Task<DevicePtr> wrap(Context& context, DevicePtr& next) override {
    Properties properties = next->properties();
    Result<Limits> limits = limits_above(properties.block_size);
    if (!limits.ok()) return Result<DevicePtr>(std::move(limits).error());
    std::uint64_t block = limits.value().block;
    properties.size = round_down(properties.size, block);
    std::uint32_t preferred = std::max(properties.block_size.preferred, kPreferredMin);
    properties.block_size = {1, std::max(preferred, static_cast<std::uint32_t>(block)), kLengthMax};
    return Result<DevicePtr>(make_filter<Blocksize>(std::move(next), std::move(properties), context,
                                                    limits.value(), locks_));
  }

 private:
  static constexpr std::int64_t kBlockMax = 65536;
  static constexpr std::uint32_t kLengthMax = 0xffffffff;
  static constexpr std::uint32_t kPreferredMin = 4096;
  static constexpr std::uint64_t kDataMax = BufferPool::kSizeMax;

  static Error invalid(std::string text) {
    return Error(std::errc::invalid_argument, std::move(text));
  }
  Result<void> check_multiple(std::string_view key, std::int64_t value) const {
    if (value % minblock_ == 0) return {};
    return invalid(fmt::format("{}={} must be a multiple of minblock={}", key, value, minblock_));
  }

  // 0 stands for what was not given.
  static std::uint64_t given_or(std::int64_t value, std::uint64_t otherwise) {
    return value != 0 ? static_cast<std::uint64_t>(value) : otherwise;
  }

  Result<Limits> limits_above(const BlockSize& below) const {
    Limits limits;
    limits.block = given_or(minblock_, 1);
    limits.data_max = std::min(given_or(maxdata_, kDataMax), kDataMax);
    if (below.known()) {
      limits.block = std::max<std::uint64_t>(limits.block, below.minimum);
      limits.data_max = std::min<std::uint64_t>(limits.data_max, below.maximum);
    }
    limits.data_max = round_down(limits.data_max, limits.block);
    limits.length_max = round_down(given_or(maxlen_, kLengthMax), limits.block);
    if (limits.data_max > 0 && limits.length_max > 0) return limits;
    return invalid(
        fmt::format("blocksize: not even one block of {} bytes fits into a request (maxdata={}, "
                    "maxlen={}, largest request below: {}); raise maxdata or maxlen, or lower "
                    "minblock",
                    limits.block, given_or(maxdata_, kDataMax), given_or(maxlen_, kLengthMax),
                    below.known() ? below.maximum : kLengthMax));
  }

  std::int64_t minblock_ = 0;
  std::int64_t maxdata_ = 0;
  std::int64_t maxlen_ = 0;
  // Of all connections, whatever export they opened: two exports may be the same data.
  RangeLock locks_;
};

}  // namespace
}  // namespace nbdkit

NBDKIT_NATIVE_FILTER("blocksize", ::nbdkit::BlocksizeLayer)
