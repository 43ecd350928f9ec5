// SPDX-License-Identifier: BSD-3-Clause
#include "backing.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "base/range.h"

namespace nbdkit {
namespace {

constexpr std::uint64_t kPage = 4096;
constexpr std::size_t kNowMax = 1024 * 1024;  // Even copying takes its time.
constexpr std::size_t kWrittenMax = 8;        // Writes whose pages may still be dirty.

std::uint64_t direct_end(const OpenedFile& file) {
  if (!file.buffered) return std::numeric_limits<std::uint64_t>::max();
  return round_down(file.size, std::max<std::uint64_t>(file.align, kPage));
}

}  // namespace

// In memory a plain call does what RWF_NOWAIT is for, which tmpfs does not know. A direct read or
// write always waits for the disk, and dropping pages takes its time too.
Backing::Backing(OpenedFile file, Access access, bool keep_cached)
    : file_(std::move(file)),
      keep_cached_(keep_cached),
      direct_end_(direct_end(file_)),
      can_read_now_(keep_cached && file_.align == 1),
      can_write_now_(keep_cached && file_.align == 1) {
  if (access == Access::normal) return;
  int advice = access == Access::random ? POSIX_FADV_RANDOM : POSIX_FADV_SEQUENTIAL;
  ::posix_fadvise(file_.fd.get(), 0, 0, advice);
}

Error Backing::failed(std::string_view what, int number) const {
  return format_error(static_cast<std::errc>(number), "{}: {}: {}", file_.name, what,
                      os_words(number));
}

Error Backing::already_lost() const {
  return format_error(std::errc::io_error,
                      "{}: data was lost when it was written back; this fails until all clients "
                      "have closed the file",
                      file_.name);
}

Result<void> Backing::check_alignment(const Request& request) const {
  if (is_aligned(request.offset, file_.align) &&
      (is_aligned(request.length, file_.align) || request.end() == file_.size)) {
    return {};
  }
  return format_error(std::errc::invalid_argument,
                      "{}: offset {} and length {} are no multiples of {}, which direct=true needs",
                      file_.name, std::uint64_t{request.offset}, request.length, file_.align);
}

std::size_t Backing::read_now(std::uint64_t offset, std::span<std::byte> bytes) {
  if (!can_read_now_.load(std::memory_order_relaxed) || bytes.size() > kNowMax) return 0;
  iovec piece{bytes.data(), bytes.size()};
  ssize_t n = ::preadv2(file_.fd.get(), &piece, 1, static_cast<off_t>(offset),
                        file_.in_memory ? 0 : RWF_NOWAIT);
  if (n >= 0) return static_cast<std::size_t>(n);
  if (errno == EOPNOTSUPP || errno == ENOSYS) can_read_now_ = false;
  return 0;
}

std::size_t Backing::write_now(std::uint64_t offset, std::span<const std::byte> bytes) {
  if (!can_write_now_.load(std::memory_order_relaxed) || bytes.size() > kNowMax) return 0;
  iovec piece{const_cast<std::byte*>(bytes.data()), bytes.size()};
  ssize_t n = ::pwritev2(file_.fd.get(), &piece, 1, static_cast<off_t>(offset),
                         file_.in_memory ? 0 : RWF_NOWAIT);
  if (n >= 0) return static_cast<std::size_t>(n);
  if (errno == EOPNOTSUPP || errno == ENOSYS) can_write_now_ = false;
  return 0;
}

template <typename Bytes, typename Part>
Result<void> Backing::in_parts(std::uint64_t offset, Bytes bytes, Part part) {
  std::uint64_t direct = direct_end_ > offset ? direct_end_ - offset : 0;
  std::size_t first = static_cast<std::size_t>(std::min<std::uint64_t>(direct, bytes.size()));
  if (first > 0) NBDKIT_TRY(part(file_.fd.get(), offset, bytes.first(first)));
  if (first == bytes.size()) return {};
  return part(file_.buffered.get(), offset + first, bytes.subspan(first));
}

Result<void> Backing::read(std::uint64_t offset, std::span<std::byte> bytes) {
  return in_parts(offset, bytes, [this](int fd, std::uint64_t at, std::span<std::byte> part) {
    return read_part(fd, at, part);
  });
}

Result<void> Backing::read_part(int fd, std::uint64_t offset, std::span<std::byte> bytes) {
  const std::uint64_t start = offset;
  while (!bytes.empty()) {
    ssize_t n = ::pread(fd, bytes.data(), bytes.size(), static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return failed("read", errno);
    if (n == 0) {
      return format_error(std::errc::io_error, "{}: read at {}: the file has become shorter",
                          file_.name, offset);
    }
    bytes = bytes.subspan(static_cast<std::size_t>(n));
    offset += static_cast<std::uint64_t>(n);
  }
  if (!keep_cached_) {
    ::posix_fadvise(fd, static_cast<off_t>(start), static_cast<off_t>(offset - start),
                    POSIX_FADV_DONTNEED);
  }
  return {};
}

Result<void> Backing::write(std::uint64_t offset, std::span<const std::byte> bytes, bool fua) {
  NBDKIT_TRY(fua ? write_durably(offset, bytes) : write_through(offset, bytes, 0));
  if (!keep_cached_) written(offset, bytes.size());
  return {};
}

Result<void> Backing::write_through(std::uint64_t offset, std::span<const std::byte> bytes,
                                    int flags) {
  auto part = [this, flags](int fd, std::uint64_t at, std::span<const std::byte> one) {
    return write_part(fd, at, one, flags);
  };
  return in_parts(offset, bytes, part);
}

Result<void> Backing::write_part(int fd, std::uint64_t offset, std::span<const std::byte> bytes,
                                 int flags) {
  while (!bytes.empty()) {
    iovec piece{const_cast<std::byte*>(bytes.data()), bytes.size()};
    ssize_t n = ::pwritev2(fd, &piece, 1, static_cast<off_t>(offset), flags);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return failed("write", errno);
    if (n == 0) return failed("write", ENOSPC);
    bytes = bytes.subspan(static_cast<std::size_t>(n));
    offset += static_cast<std::uint64_t>(n);
  }
  return {};
}

// RWF_DSYNC writes back no more than this write. With others under way one fdatasync() for all of
// them is better, and the only way to be sure of its result (sync.h).
Result<void> Backing::write_durably(std::uint64_t offset, std::span<const std::byte> bytes) {
  if (sync_.lost()) return already_lost();
  if (!sync_.begin_alone()) {
    NBDKIT_TRY(write_through(offset, bytes, 0));
    return flush();
  }
  Result<void> durable = write_through(offset, bytes, RWF_DSYNC);
  if (durable.ok()) {
    sync_.end_alone(false);
    return {};
  }
  bool unknown_flag = durable.error().code == std::errc::operation_not_supported;
  // A write that can be done now was done before too: then making it durable is what failed.
  Result<void> plain = write_through(offset, bytes, 0);
  sync_.end_alone(plain.ok() && !unknown_flag);
  if (!unknown_flag) return durable;
  NBDKIT_TRY(std::move(plain));
  return flush();
}

Result<void> Backing::flush() {
  Result<void> result = sync_.run([this]() -> Result<void> {
    while (::fdatasync(file_.fd.get()) != 0) {
      if (errno != EINTR) return failed("fdatasync", errno);
    }
    return {};
  });
  if (result.ok() && !keep_cached_) drop_written();
  if (!result.ok() && result.error().code == std::errc::state_not_recoverable)
    return already_lost();
  return result;
}

Result<void> Backing::finish(const Request& request) {
  if (request.has(RequestFlags::fua)) return flush();
  return {};
}

// No sync_file_range() that waits: it takes the news of a failed write-back away from the next
// flush. What is still dirty when its turn comes stays in the cache.
void Backing::written(std::uint64_t offset, std::uint64_t length) {
  ::sync_file_range(file_.fd.get(), static_cast<off_t>(offset), static_cast<off_t>(length),
                    SYNC_FILE_RANGE_WRITE);
  Written oldest{0, 0};
  {
    std::lock_guard lock(written_mutex_);
    written_.push_back({offset, length});
    if (written_.size() <= kWrittenMax) return;
    oldest = written_.front();
    written_.pop_front();
  }
  ::posix_fadvise(file_.fd.get(), static_cast<off_t>(oldest.offset),
                  static_cast<off_t>(oldest.length), POSIX_FADV_DONTNEED);
}

void Backing::drop_written() {
  std::deque<Written> clean;
  {
    std::lock_guard lock(written_mutex_);
    clean.swap(written_);
  }
  for (const Written& one : clean) {
    ::posix_fadvise(file_.fd.get(), static_cast<off_t>(one.offset), static_cast<off_t>(one.length),
                    POSIX_FADV_DONTNEED);
  }
}

Result<void> Backing::cache(Request request) {
  int number = ::posix_fadvise(file_.fd.get(), static_cast<off_t>(request.offset),
                               static_cast<off_t>(request.length), POSIX_FADV_WILLNEED);
  if (number != 0) return failed("fadvise", number);
  return {};
}

// The file's position moves, which nobody else looks at: all reads and writes say where.
Result<void> Backing::extents(Request request, Extents& extents) {
  const int fd = file_.fd.get();
  const std::uint64_t end = std::max(request.end(), extents.end());
  std::uint64_t at = request.offset;
  while (at < request.end() && !extents.full()) {
    off_t found = ::lseek(fd, static_cast<off_t>(at), SEEK_DATA);
    if (found < 0 && errno != ENXIO) return failed("lseek", errno);
    std::uint64_t data = found < 0 ? end : static_cast<std::uint64_t>(found);
    NBDKIT_TRY(extents.add(at, data - at, ExtentType::hole_and_zero));
    if (found < 0 || (request.has(RequestFlags::one) && data > at)) break;
    found = ::lseek(fd, found, SEEK_HOLE);
    if (found < 0 && errno != ENXIO) return failed("lseek", errno);
    at = found < 0 ? end : static_cast<std::uint64_t>(found);
    NBDKIT_TRY(extents.add(data, at - data, ExtentType::data));
    if (request.has(RequestFlags::one)) break;
  }
  return {};
}

}  // namespace nbdkit
