// SPDX-License-Identifier: BSD-3-Clause
// allocator=zstd: a sparse disk in compressed chunks of 32 KiB. Compressing takes its time, so all
// of it happens on workers; a chunk is changed under its lock, which covers every 64th chunk of a
// part.

#include <zstd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "base/range.h"
#include "directory.h"
#include "store.h"

namespace nbdkit {
namespace {

constexpr std::uint64_t kChunk = 32 * 1024;
constexpr std::size_t kPartChunks = kPartSize / kChunk;
constexpr std::size_t kLocks = 64;
constexpr int kLevel = 1;  // Twice as fast as the library's default and not much larger.

// What one call needs for its work. Costly to make, so they are used again.
struct Codec {
  Codec() : packed(::ZSTD_compressBound(kChunk)) {}
  Codec(const Codec&) = delete;
  Codec& operator=(const Codec&) = delete;
  ~Codec() {
    ::ZSTD_freeCCtx(compressor);
    ::ZSTD_freeDCtx(decompressor);
  }

  ZSTD_CCtx* compressor = ::ZSTD_createCCtx();
  ZSTD_DCtx* decompressor = ::ZSTD_createDCtx();
  std::array<std::byte, kChunk> plain;
  std::vector<std::byte> packed;
};

class Zstd final : public Store {
 public:
  explicit Zstd(std::uint64_t size) : size_(size), parts_(size) {}

  DevicePtr open(Context& context, Properties properties) override;

  bool has_data(Request request) const;
  // All of these on a worker.
  Result<void> read(std::uint64_t offset, std::span<std::byte> bytes);
  Result<void> write(std::uint64_t offset, std::span<const std::byte> bytes);
  Result<void> zero(Request request);
  Result<void> extents(Request request, Extents& extents) const;

 private:
  // nullptr: never written. Otherwise its compressed length, a std::uint32_t, and as many bytes.
  using Slot = std::atomic<std::byte*>;

  struct Part {
    ~Part() {
      for (Slot& slot : slots) std::free(slot.load(std::memory_order_relaxed));
    }
    std::mutex& lock_of(std::size_t chunk) { return locks[chunk % kLocks]; }

    std::array<Slot, kPartChunks> slots{};
    std::array<std::mutex, kLocks> locks;
  };

  // The bytes of one chunk that a request touches.
  struct Piece {
    std::uint64_t offset;
    std::size_t chunk;  // in its part
    std::size_t from;
    std::size_t length;
    bool whole;
  };

  Piece piece_at(std::uint64_t offset, std::uint64_t end) const;
  Result<std::unique_ptr<Codec>> get_codec();
  void put_codec(std::unique_ptr<Codec> codec);

  Result<void> read_piece(Piece piece, std::byte* to, Codec& codec);
  Result<void> write_piece(Piece piece, const std::byte* from, Codec& codec);
  Result<void> zero_piece(Part& part, Piece piece, bool may_trim, Codec& codec);
  static Result<void> unpack(const Slot& slot, std::byte* to, Codec& codec);
  static Result<void> pack(Slot& slot, const std::byte* from, Codec& codec);

  const std::uint64_t size_;
  Directory<Part> parts_;
  std::mutex codecs_mutex_;
  std::vector<std::unique_ptr<Codec>> codecs_;  // Not in use; as many as ever worked at a time.
};

class ZstdDevice final : public BlockDevice {
 public:
  ZstdDevice(Context& context, Zstd& store, Properties properties)
      : BlockDevice(std::move(properties)), context_(context), store_(store) {}

  Task<void> pread(Request request, Reply& reply) override {
    if (!store_.has_data(request)) {
      reply.hole(request.length);
      return Result<void>();
    }
    auto buffer = reply.buffer(static_cast<std::size_t>(request.length));
    if (!buffer.ok()) return Result<void>(std::move(buffer).error());
    return context_.blocking(
        [this, request, bytes = buffer.value()] { return store_.read(request.offset, bytes); });
  }
  Task<void> pwrite(Request request, Payload& payload) override {
    Result<void> pinned = payload.pin();
    if (!pinned.ok()) return pinned;
    return context_.blocking(
        [this, request, bytes = payload.bytes()] { return store_.write(request.offset, bytes); });
  }
  Task<void> flush() override { return Result<void>(); }
  Task<void> trim(Request request) override {
    return zero(request.with(request.flags | RequestFlags::may_trim));
  }
  Task<void> zero(Request request) override {
    return context_.blocking([this, request] { return store_.zero(request); });
  }
  Task<void> cache(Request) override { return Result<void>(); }
  Task<void> extents(Request request, Extents& extents) override {
    return context_.blocking(
        [this, request, &extents] { return store_.extents(request, extents); });
  }

 private:
  Context& context_;
  Zstd& store_;
};

DevicePtr Zstd::open(Context& context, Properties properties) {
  return std::make_unique<ZstdDevice>(context, *this, std::move(properties));
}

bool Zstd::has_data(Request request) const {
  return parts_.next(round_down(request.offset, kPartSize)) < request.end();
}

// The one that begins at `offset` and ends with its chunk or at `end`. The disk's last chunk may be
// cut short and is whole nevertheless.
Zstd::Piece Zstd::piece_at(std::uint64_t offset, std::uint64_t end) const {
  std::uint64_t start = round_down(offset, kChunk);
  std::uint64_t stop = std::min(start + kChunk, end);
  bool whole = offset == start && (stop == start + kChunk || stop == size_);
  return {offset, (start % kPartSize) / kChunk, static_cast<std::size_t>(offset - start),
          static_cast<std::size_t>(stop - offset), whole};
}

Result<std::unique_ptr<Codec>> Zstd::get_codec() {
  {
    std::lock_guard lock(codecs_mutex_);
    if (!codecs_.empty()) {
      std::unique_ptr<Codec> codec = std::move(codecs_.back());
      codecs_.pop_back();
      return codec;
    }
  }
  auto codec = std::make_unique<Codec>();
  if (codec->compressor == nullptr || codec->decompressor == nullptr) {
    return std::errc::not_enough_memory;
  }
  return codec;
}

void Zstd::put_codec(std::unique_ptr<Codec> codec) {
  std::lock_guard lock(codecs_mutex_);
  codecs_.push_back(std::move(codec));
}

Result<void> Zstd::unpack(const Slot& slot, std::byte* to, Codec& codec) {
  const std::byte* packed = slot.load(std::memory_order_acquire);
  if (packed == nullptr) {
    std::memset(to, 0, kChunk);
    return {};
  }
  std::uint32_t length;
  std::memcpy(&length, packed, sizeof length);
  std::size_t n =
      ::ZSTD_decompressDCtx(codec.decompressor, to, kChunk, packed + sizeof length, length);
  if (n != kChunk) return std::errc::io_error;
  return {};
}

Result<void> Zstd::pack(Slot& slot, const std::byte* from, Codec& codec) {
  std::size_t n = ::ZSTD_compressCCtx(codec.compressor, codec.packed.data(), codec.packed.size(),
                                      from, kChunk, kLevel);
  if (::ZSTD_isError(n) != 0) return std::errc::io_error;
  auto length = static_cast<std::uint32_t>(n);
  auto* packed = static_cast<std::byte*>(std::malloc(sizeof length + n));
  if (packed == nullptr) return std::errc::no_space_on_device;
  std::memcpy(packed, &length, sizeof length);
  std::memcpy(packed + sizeof length, codec.packed.data(), n);
  std::free(slot.exchange(packed, std::memory_order_acq_rel));
  return {};
}

Result<void> Zstd::read_piece(Piece piece, std::byte* to, Codec& codec) {
  Part* part = parts_.find(piece.offset);
  if (part == nullptr) {
    std::memset(to, 0, piece.length);
    return {};
  }
  std::lock_guard lock(part->lock_of(piece.chunk));
  if (piece.length == kChunk) return unpack(part->slots[piece.chunk], to, codec);
  NBDKIT_TRY(unpack(part->slots[piece.chunk], codec.plain.data(), codec));
  std::memcpy(to, codec.plain.data() + piece.from, piece.length);
  return {};
}

Result<void> Zstd::write_piece(Piece piece, const std::byte* from, Codec& codec) {
  auto make = [](std::uint64_t) -> Result<std::unique_ptr<Part>> {
    return std::make_unique<Part>();
  };
  Result<Part*> part = parts_.get(piece.offset, make);
  if (!part.ok()) return std::move(part).error();
  Slot& slot = part.value()->slots[piece.chunk];
  std::lock_guard lock(part.value()->lock_of(piece.chunk));
  if (piece.length == kChunk) return pack(slot, from, codec);
  NBDKIT_TRY(unpack(slot, codec.plain.data(), codec));
  std::memcpy(codec.plain.data() + piece.from, from, piece.length);
  return pack(slot, codec.plain.data(), codec);
}

Result<void> Zstd::zero_piece(Part& part, Piece piece, bool may_trim, Codec& codec) {
  Slot& slot = part.slots[piece.chunk];
  std::lock_guard lock(part.lock_of(piece.chunk));
  if (slot.load(std::memory_order_acquire) == nullptr) return {};
  if (piece.whole && may_trim) {
    std::free(slot.exchange(nullptr, std::memory_order_acq_rel));
    return {};
  }
  NBDKIT_TRY(unpack(slot, codec.plain.data(), codec));
  std::memset(codec.plain.data() + piece.from, 0, piece.length);
  return pack(slot, codec.plain.data(), codec);
}

Result<void> Zstd::read(std::uint64_t offset, std::span<std::byte> bytes) {
  Result<std::unique_ptr<Codec>> codec = get_codec();
  if (!codec.ok()) return std::move(codec).error();
  std::uint64_t end = offset + bytes.size();
  Result<void> result;
  for (std::uint64_t at = offset; at < end && result.ok();) {
    Piece piece = piece_at(at, end);
    result = read_piece(piece, bytes.data() + (at - offset), *codec.value());
    at += piece.length;
  }
  put_codec(std::move(codec).value());
  return result;
}

Result<void> Zstd::write(std::uint64_t offset, std::span<const std::byte> bytes) {
  Result<std::unique_ptr<Codec>> codec = get_codec();
  if (!codec.ok()) return std::move(codec).error();
  std::uint64_t end = offset + bytes.size();
  Result<void> result;
  for (std::uint64_t at = offset; at < end && result.ok();) {
    Piece piece = piece_at(at, end);
    result = write_piece(piece, bytes.data() + (at - offset), *codec.value());
    at += piece.length;
  }
  put_codec(std::move(codec).value());
  return result;
}

Result<void> Zstd::zero(Request request) {
  Result<std::unique_ptr<Codec>> codec = get_codec();
  if (!codec.ok()) return std::move(codec).error();
  Result<void> result;
  std::uint64_t start = parts_.next(round_down(request.offset, kPartSize));
  while (start < request.end() && result.ok()) {
    std::uint64_t end = std::min(request.end(), start + kPartSize);
    for (std::uint64_t at = std::max(request.offset, start); at < end && result.ok();) {
      Piece piece = piece_at(at, end);
      result = zero_piece(*parts_.find(start), piece, request.has(RequestFlags::may_trim),
                          *codec.value());
      at += piece.length;
    }
    start = parts_.next(start + kPartSize);
  }
  put_codec(std::move(codec).value());
  return result;
}

Result<void> Zstd::extents(Request request, Extents& extents) const {
  for (std::uint64_t at = request.offset; at < request.end() && !extents.full();) {
    if (request.has(RequestFlags::one) && extents.list().size() > 1) break;
    const Part* part = parts_.find(at);
    if (part == nullptr) {
      std::uint64_t stop = std::min(parts_.next(round_down(at, kPartSize)), request.end());
      NBDKIT_TRY(extents.add(at, stop - at, ExtentType::hole_and_zero));
      at = stop;
      continue;
    }
    Piece piece = piece_at(at, request.end());
    bool data = part->slots[piece.chunk].load(std::memory_order_acquire) != nullptr;
    NBDKIT_TRY(extents.add(at, piece.length, data ? ExtentType::data : ExtentType::hole_and_zero));
    at += piece.length;
  }
  return {};
}

}  // namespace

std::unique_ptr<Store> make_zstd(std::uint64_t size) { return std::make_unique<Zstd>(size); }

}  // namespace nbdkit
