// SPDX-License-Identifier: BSD-3-Clause
// allocator=sparse: address space in parts of 256 MiB, mapped when first written, and a bitmap that
// says which 4 KiB chunks of them are in use, so that reading holes costs no memory.
//
// A read lends the pages themselves. They stay mapped until the process ends, trimmed or not, so
// what was lent stays readable.
//
// Clear bit => the memory reads as zeroes, but for a write that is under way. To keep that true
// without a lock in the write path: a write copies first and sets its bits then, always, and what
// makes holes (one at a time in a part) clears the bits first and frees the memory then. Whichever
// comes later in the order of one bit's changes, no byte from before a hole can show again.

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <cstring>
#include <mutex>

#include "base/range.h"
#include "bitmap.h"
#include "directory.h"
#include "store.h"

namespace nbdkit {
namespace {

constexpr std::uint64_t kChunk = 4096;
// What is done under a part's lock at a time.
constexpr std::uint64_t kPiece = 2 * 1024 * 1024;
// mmap() cannot reach the last page of a file of 2^63 - 1 bytes.
constexpr std::uint64_t kKeptSizeMax = (std::uint64_t{1} << 63) - kPartSize;

class Sparse final : public Store {
 public:
  // `kept_memory` is -1 or a memfd that the data shall live in.
  Sparse(std::uint64_t size, int kept_memory) : size_(size), kept_(kept_memory), parts_(size) {}

  Result<void> get_ready() override;
  Result<void> load() override;
  std::string identity() const override;
  DevicePtr open(Context& context, Properties properties) override {
    return std::make_unique<MappedDevice<Sparse>>(context, *this, std::move(properties));
  }

  void read(Request request, Reply& reply) const;
  Result<void> write(std::uint64_t offset, std::span<const std::byte> bytes);
  Result<void> zero(Request request);
  Result<void> extents(Request request, Extents& extents) const;

 private:
  struct Part {
    Bitmap<kPartSize / kChunk> used;
    std::mutex hole_mutex;  // For making holes, see above.
    Mapping memory;
    std::uint64_t start;
  };

  Result<Part*> part_for(std::uint64_t offset) {
    return parts_.get(offset, [this](std::uint64_t start) { return make_part(start); });
  }
  Result<std::unique_ptr<Part>> make_part(std::uint64_t start) const;
  Result<void> write_kept(std::uint64_t offset, std::span<const std::byte> bytes) const;
  Result<void> mark_used(std::uint64_t offset, std::uint64_t end);
  void zero_piece(Part& part, std::uint64_t from, std::uint64_t to, bool may_trim) const;
  void overwrite(Part& part, std::uint64_t from, std::uint64_t to) const;
  void discard(Part& part, std::uint64_t from, std::uint64_t to) const;
  bool free_memory(Part& part, std::uint64_t from, std::uint64_t length) const;

  const std::uint64_t size_;
  const int kept_;
  Directory<Part> parts_;
  std::mutex load_mutex_;
  bool loaded_ = false;
};

// The chunks that have a byte of [from, to), which is not empty.
template <typename Visit>
void for_used_runs(const Bitmap<kPartSize / kChunk>& used, std::uint64_t from, std::uint64_t to,
                   Visit visit) {
  std::size_t end = (to + kChunk - 1) / kChunk;
  for (std::size_t at = from / kChunk; at < end;) {
    auto run = used.run_at(at, end);
    if (run.set) visit(at, run.end);
    at = run.end;
  }
}

Result<void> Sparse::get_ready() {
  if (kept_ < 0) return {};
  if (size_ > kKeptSizeMax) {
    return Error(std::errc::file_too_large,
                 fmt::format("size={}: an attached disk in memory can have at most {} bytes", size_,
                             kKeptSizeMax));
  }
  return {};
}

// Not earlier than the first open: until then another server may still be writing.
Result<void> Sparse::load() {
  if (kept_ < 0) return {};
  std::lock_guard lock(load_mutex_);
  if (loaded_) return {};
  struct stat status;
  if (::fstat(kept_, &status) != 0) return os_error("the memory kept for the disk: fstat");
  // To the full size: touching what is mapped beyond the end of a file is a fatal signal. A disk
  // may grow with the next server, and what is behind the end of a smaller one stays.
  if (static_cast<std::uint64_t>(status.st_size) < size_ &&
      ::ftruncate(kept_, static_cast<off_t>(size_)) != 0) {
    return os_error(fmt::format("size={}: the memory kept for the disk", size_));
  }
  for (off_t at = 0; static_cast<std::uint64_t>(at) < size_;) {
    off_t data = ::lseek(kept_, at, SEEK_DATA);
    if (data < 0 && errno == ENXIO) break;
    if (data < 0) return os_error("the memory kept for the disk: lseek");
    at = ::lseek(kept_, data, SEEK_HOLE);
    if (at < 0) return os_error("the memory kept for the disk: lseek");
    if (static_cast<std::uint64_t>(data) >= size_) break;
    NBDKIT_TRY(mark_used(static_cast<std::uint64_t>(data),
                         std::min(size_, static_cast<std::uint64_t>(at))));
  }
  loaded_ = true;
  return {};
}

Result<void> Sparse::mark_used(std::uint64_t offset, std::uint64_t end) {
  while (offset < end) {
    Result<Part*> part = part_for(offset);
    if (!part.ok()) {
      return Error(part.error().code, "the memory kept for the disk cannot be mapped");
    }
    std::uint64_t start = part.value()->start;
    std::uint64_t stop = std::min(end, start + kPartSize);
    part.value()->used.set((offset - start) / kChunk, (stop - start + kChunk - 1) / kChunk);
    offset = stop;
  }
  return {};
}

std::string Sparse::identity() const {
  struct stat status;
  if (kept_ < 0 || ::fstat(kept_, &status) != 0) return {};
  return fmt::format("memfd:{}:{}", status.st_dev, status.st_ino);
}

Result<std::unique_ptr<Sparse::Part>> Sparse::make_part(std::uint64_t start) const {
  std::uint64_t size = std::min(kPartSize, round_up(size_ - start, kChunk));
  auto memory = kept_ < 0 ? Mapping::anonymous(size, Mapping::Reserve::no)
                          : Mapping::shared(kept_, start, size);
  if (!memory.ok()) return std::move(memory).error();
  // A huge page for every few bytes that are written far apart would not be sparse at all.
  ::madvise(memory.value().data(), size, MADV_NOHUGEPAGE);
  auto part = std::make_unique<Part>();
  part->memory = std::move(memory).value();
  part->start = start;
  return part;
}

void Sparse::read(Request request, Reply& reply) const {
  for (std::uint64_t at = request.offset; at < request.end();) {
    std::uint64_t start = round_down(at, kPartSize);
    std::uint64_t stop = std::min(request.end(), start + kPartSize);
    const Part* part = parts_.find(at);
    if (part == nullptr) {
      reply.hole(stop - at);
      at = stop;
      continue;
    }
    std::size_t chunks_end = (stop - start + kChunk - 1) / kChunk;
    while (at < stop) {
      auto run = part->used.run_at((at - start) / kChunk, chunks_end);
      std::uint64_t run_stop = std::min(stop, start + run.end * kChunk);
      if (run.set) {
        reply.lend({part->memory.data() + (at - start), run_stop - at});
      } else {
        reply.hole(run_stop - at);
      }
      at = run_stop;
    }
  }
}

Result<void> Sparse::write(std::uint64_t offset, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    Result<Part*> found = part_for(offset);
    if (!found.ok()) return std::move(found).error();
    Part& part = *found.value();
    std::uint64_t from = offset - part.start;
    std::size_t length = std::min<std::uint64_t>(bytes.size(), kPartSize - from);
    std::size_t first = from / kChunk;
    std::size_t end = (from + length + kChunk - 1) / kChunk;
    if (kept_ >= 0 && !part.used.all(first, end)) {
      NBDKIT_TRY(write_kept(offset, bytes.first(length)));
    } else {
      std::memcpy(part.memory.data() + from, bytes.data(), length);
    }
    part.used.set(first, end);
    bytes = bytes.subspan(length);
    offset += length;
  }
  return {};
}

// Where a page has to be made: when there is no room for it this is an error, but touching the
// mapping would be a fatal signal.
Result<void> Sparse::write_kept(std::uint64_t offset, std::span<const std::byte> bytes) const {
  while (!bytes.empty()) {
    ssize_t n = ::pwrite(kept_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return std::errc::no_space_on_device;
    bytes = bytes.subspan(static_cast<std::size_t>(n));
    offset += static_cast<std::uint64_t>(n);
  }
  return {};
}

Result<void> Sparse::zero(Request request) {
  // The last chunk may be cut short by the end of the disk, and is whole nevertheless.
  std::uint64_t end = request.end() == size_ ? round_up(size_, kChunk) : request.end();
  std::uint64_t start = parts_.next(round_down(request.offset, kPartSize));
  while (start < end) {
    Part& part = *parts_.find(start);
    std::uint64_t from = std::max(request.offset, start) - start;
    std::uint64_t to = std::min(end - start, kPartSize);
    while (from < to) {
      std::uint64_t stop = std::min(to, round_down(from, kPiece) + kPiece);
      zero_piece(part, from, stop, request.has(RequestFlags::may_trim));
      from = stop;
    }
    start = parts_.next(start + kPartSize);
  }
  return {};
}

void Sparse::zero_piece(Part& part, std::uint64_t from, std::uint64_t to, bool may_trim) const {
  std::lock_guard lock(part.hole_mutex);
  std::uint64_t first_whole = round_up(from, kChunk);
  std::uint64_t end_whole = round_down(to, kChunk);
  if (!may_trim || first_whole >= end_whole) return overwrite(part, from, to);
  overwrite(part, from, first_whole);
  discard(part, first_whole, end_whole);
  overwrite(part, end_whole, to);
}

// What is no hole stays none. What is one reads as zeroes already.
void Sparse::overwrite(Part& part, std::uint64_t from, std::uint64_t to) const {
  if (from == to) return;
  for_used_runs(part.used, from, to, [&](std::size_t first, std::size_t end) {
    std::uint64_t begin = std::max(from, first * kChunk);
    std::memset(part.memory.data() + begin, 0, std::min(to, end * kChunk) - begin);
  });
}

void Sparse::discard(Part& part, std::uint64_t from, std::uint64_t to) const {
  for_used_runs(part.used, from, to, [&](std::size_t first, std::size_t end) {
    part.used.clear(first, end);
    if (free_memory(part, first * kChunk, (end - first) * kChunk)) return;
    std::memset(part.memory.data() + first * kChunk, 0, (end - first) * kChunk);
    part.used.set(first, end);
  });
}

// Fails on memory that is locked (--swap).
bool Sparse::free_memory(Part& part, std::uint64_t from, std::uint64_t length) const {
  if (kept_ < 0) return ::madvise(part.memory.data() + from, length, MADV_DONTNEED) == 0;
  return ::fallocate(kept_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                     static_cast<off_t>(part.start + from), static_cast<off_t>(length)) == 0;
}

Result<void> Sparse::extents(Request request, Extents& extents) const {
  std::uint64_t at = request.offset;
  auto enough = [&] {
    return at >= request.end() || extents.full() ||
           (request.has(RequestFlags::one) && extents.list().size() > 1);
  };
  while (!enough()) {
    std::uint64_t start = round_down(at, kPartSize);
    const Part* part = parts_.find(at);
    if (part == nullptr) {
      std::uint64_t stop = std::min(parts_.next(start), request.end());
      NBDKIT_TRY(extents.add(at, stop - at, ExtentType::hole_and_zero));
      at = stop;
      continue;
    }
    std::uint64_t stop = std::min(request.end(), start + kPartSize);
    std::size_t chunks_end = (stop - start + kChunk - 1) / kChunk;
    while (at < stop && !enough()) {
      auto run = part->used.run_at((at - start) / kChunk, chunks_end);
      std::uint64_t run_stop = std::min(stop, start + run.end * kChunk);
      NBDKIT_TRY(
          extents.add(at, run_stop - at, run.set ? ExtentType::data : ExtentType::hole_and_zero));
      at = run_stop;
    }
  }
  return {};
}

}  // namespace

std::unique_ptr<Store> make_sparse(std::uint64_t size, int kept_memory) {
  return std::make_unique<Sparse>(size, kept_memory);
}

}  // namespace nbdkit
