// SPDX-License-Identifier: BSD-3-Clause
// pattern: every 8 bytes hold their own offset as a 64-bit big-endian number. For finding out what
// a client, a filter or a copy does to the bytes and to their places.

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/range.h"
#include "block/layer.h"
#include "block/native_module.h"

namespace nbdkit {
namespace {

constexpr std::uint64_t kWord = sizeof(std::uint64_t);

std::uint64_t big_endian(std::uint64_t n) {
  return std::endian::native == std::endian::big ? n : __builtin_bswap64(n);
}

void fill(std::span<std::byte> bytes, std::uint64_t offset) {
  std::byte* to = bytes.data();
  std::byte* end = to + bytes.size();
  while (to < end) {
    std::uint64_t word = big_endian(round_down(offset, kWord));
    std::uint64_t skipped = offset % kWord;
    std::size_t length = std::min<std::size_t>(kWord - skipped, static_cast<std::size_t>(end - to));
    std::memcpy(to, reinterpret_cast<const std::byte*>(&word) + skipped, length);
    to += length;
    offset += length;
    // The bulk, in a form that the compiler turns into vector code.
    for (; end - to >= static_cast<std::ptrdiff_t>(kWord); to += kWord, offset += kWord) {
      word = big_endian(offset);
      std::memcpy(to, &word, kWord);
    }
  }
}

class Pattern final : public BlockDevice {
 public:
  using BlockDevice::BlockDevice;

  Task<void> pread(Request request, Reply& reply) override {
    auto buffer = reply.buffer(static_cast<std::size_t>(request.length));
    if (!buffer.ok()) return Result<void>(std::move(buffer).error());
    fill(buffer.value(), request.offset);
    return Result<void>();
  }
  Task<void> cache(Request) override { return Result<void>(); }
};

class PatternLayer final : public Layer {
 public:
  Contract contract() const override {
    return {.survives = Survives::durable, .shared_open = true, .swap_fit = true};
  }
  std::string_view long_name() const override { return "nbdkit pattern plugin"; }

  Task<DevicePtr> open(Context&) override {
    Properties properties;
    properties.size = static_cast<std::uint64_t>(size_);
    properties.can_cache = true;
    properties.can_multi_conn = true;
    properties.identity = "pattern";
    return Result<DevicePtr>(std::make_unique<Pattern>(std::move(properties)));
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

NBDKIT_NATIVE_PLUGIN("pattern", ::nbdkit::PatternLayer)
