// SPDX-License-Identifier: BSD-3-Clause
#include "faults.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <new>

namespace nbdkit {

Faults& faults() {
  static Faults instance;
  return instance;
}

void reset_faults() {
  faults().~Faults();
  new (&faults()) Faults;
}

namespace {

bool fails(const std::atomic<int>& fault) {
  if (fault == 0) return false;
  errno = fault;
  return true;
}

iovec cut(const iovec* pieces) {
  return {pieces->iov_base, std::min<std::size_t>(pieces->iov_len, faults().io_max)};
}

}  // namespace
}  // namespace nbdkit

using nbdkit::fails;
using nbdkit::faults;

extern "C" {

int fdatasync(int fd) {
  ++faults().fdatasyncs;
  if (fails(faults().fdatasync)) return -1;
  return static_cast<int>(::syscall(SYS_fdatasync, fd));
}

// The plugin reads and writes one piece at a time.
ssize_t preadv2(int fd, const iovec* pieces, int, off_t offset, int flags) {
  if ((flags & RWF_NOWAIT) != 0) {
    ++faults().reads_now;
    if (fails(faults().read_now)) return -1;
  }
  iovec piece = nbdkit::cut(pieces);
  return ::syscall(SYS_preadv2, fd, &piece, 1, offset, 0, flags);
}

ssize_t pwritev2(int fd, const iovec* pieces, int, off_t offset, int flags) {
  if ((flags & RWF_DSYNC) != 0) ++faults().durable_writes;
  if (reinterpret_cast<std::uintptr_t>(pieces->iov_base) % 512 != 0) ++faults().odd_addresses;
  const auto& fault = (flags & RWF_DSYNC) != 0    ? faults().durable_write
                      : (flags & RWF_NOWAIT) != 0 ? faults().write_now
                                                  : faults().plain_write;
  if (fails(fault)) return -1;
  iovec piece = nbdkit::cut(pieces);
  return ::syscall(SYS_pwritev2, fd, &piece, 1, offset, 0, flags);
}

ssize_t pread(int fd, void* bytes, std::size_t size, off_t offset) {
  return ::syscall(SYS_pread64, fd, bytes, std::min<std::size_t>(size, faults().io_max), offset);
}

int fallocate(int fd, int mode, off_t offset, off_t length) {
  ++faults().fallocates;
  if (fails(faults().fallocate)) return -1;
  if ((mode & FALLOC_FL_ZERO_RANGE) != 0 && fails(faults().zero_range)) return -1;
  return static_cast<int>(::syscall(SYS_fallocate, fd, mode, offset, length));
}

int posix_fadvise(int fd, off_t offset, off_t length, int advice) noexcept {
  if (advice == POSIX_FADV_DONTNEED) {
    ++faults().dropped;
  } else {
    faults().advice = advice;
  }
  return ::syscall(SYS_fadvise64, fd, offset, length, advice) == 0 ? 0 : errno;
}

}  // extern "C"
