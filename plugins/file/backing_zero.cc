// SPDX-License-Identifier: BSD-3-Clause
// Trimming and zeroing: the best way that the file system or device knows, and at worst by writing.
// None of them touches a byte outside of its range, so writes beside it are safe.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>

#include "backing.h"
#include "base/range.h"

namespace nbdkit {
namespace {

constexpr int kPunch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
constexpr int kZeroRange = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE;
// Never written: memory that is aligned for direct access, and costs nothing until it is read.
constexpr std::size_t kZeroesSize = 256 * 1024;
alignas(4096) constinit std::array<std::byte, kZeroesSize> zeroes{};

bool is_unsupported(int number) {
  return number == EOPNOTSUPP || number == ENOSYS || number == ENOTTY || number == ENODEV;
}

}  // namespace

Result<Backing::Way> Backing::allocate(std::string_view what, std::atomic<bool>& supported,
                                       int mode, Request request) {
  if (!supported) return Way::unsupported;
  while (::fallocate(file_.fd.get(), mode, static_cast<off_t>(request.offset),
                     static_cast<off_t>(request.length)) != 0) {
    if (errno == EINTR) continue;
    if (!is_unsupported(errno)) return failed(what, errno);
    supported = false;
    return Way::unsupported;
  }
  return Way::taken;
}

Result<Backing::Way> Backing::device_call(std::string_view what, std::atomic<bool>& supported,
                                          unsigned long call, std::uint64_t offset,
                                          std::uint64_t end) {
  if (!supported) return Way::unsupported;
  const std::uint64_t range[2] = {offset, end - offset};
  while (::ioctl(file_.fd.get(), call, range) != 0) {
    if (errno == EINTR) continue;
    if (!is_unsupported(errno)) return failed(what, errno);
    supported = false;
    return Way::unsupported;
  }
  return Way::taken;
}

Result<void> Backing::trim(Request request) {
  if (request.has(RequestFlags::fua) && sync_.lost()) return already_lost();
  if (!file_.is_block) {
    Result<Way> way = allocate("punch a hole", can_punch_, kPunch, request);
    if (!way.ok()) return std::move(way).error();
    return finish(request);
  }
  std::uint64_t first = round_up(request.offset, file_.sector);
  std::uint64_t end = round_down(request.end(), file_.sector);
  if (first < end) {
    Result<Way> way = device_call("discard", can_discard_, BLKDISCARD, first, end);
    if (!way.ok()) return std::move(way).error();
  }
  return finish(request);
}

Result<void> Backing::zero(Request request) {
  if (request.has(RequestFlags::fua) && sync_.lost()) return already_lost();
  Result<Way> way = file_.is_block ? zero_block_device(request) : zero_file(request);
  if (!way.ok()) return std::move(way).error();
  if (way.value() == Way::unsupported) {
    if (request.has(RequestFlags::fast_zero)) return std::errc::not_supported;
    NBDKIT_TRY(write_zeroes(request.offset, request.end()));
  }
  return finish(request);
}

Result<Backing::Way> Backing::zero_file(Request request) {
  if (request.has(RequestFlags::may_trim)) {
    Result<Way> way = allocate("punch a hole", can_punch_, kPunch, request);
    if (!way.ok() || way.value() == Way::taken) return way;
  }
  Result<Way> way = allocate("zero a range", can_zero_range_, kZeroRange, request);
  if (!way.ok() || way.value() == Way::taken) return way;
  // A hole that gets its space back. What is written in between stays.
  if (!can_allocate_) return Way::unsupported;
  Result<Way> hole = allocate("punch a hole", can_punch_, kPunch, request);
  if (!hole.ok() || hole.value() == Way::unsupported) return hole;
  Result<Way> space = allocate("allocate", can_allocate_, FALLOC_FL_KEEP_SIZE, request);
  return space;
}

// Only a hole is sure to be fast: BLKZEROOUT may well write zeroes itself.
Result<Backing::Way> Backing::zero_block_device(Request request) {
  std::uint64_t first = round_up(request.offset, file_.sector);
  std::uint64_t end = round_down(request.end(), file_.sector);
  if (first >= end) return Way::unsupported;
  Request whole(Offset{first}, end - first);
  Result<Way> way = Way::unsupported;
  if (request.has(RequestFlags::may_trim)) {
    way = allocate("punch a hole", can_punch_, kPunch, whole);
    if (!way.ok()) return way;
  }
  if (way.value() == Way::unsupported && !request.has(RequestFlags::fast_zero)) {
    way = device_call("zero a range", can_zero_out_, BLKZEROOUT, first, end);
    if (!way.ok()) return way;
  }
  if (way.value() == Way::unsupported) return way;
  NBDKIT_TRY(write_zeroes(request.offset, first));
  NBDKIT_TRY(write_zeroes(end, request.end()));
  return way;
}

Result<void> Backing::write_zeroes(std::uint64_t offset, std::uint64_t end) {
  if (offset == end) return {};
  Result<void> result;
  while (offset < end && result.ok()) {
    std::size_t length =
        static_cast<std::size_t>(std::min<std::uint64_t>(end - offset, kZeroesSize));
    result = write(offset, std::span(zeroes).first(length), false);
    offset += length;
  }
  return result;
}

}  // namespace nbdkit
