// SPDX-License-Identifier: BSD-3-Clause
#include "open_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <bit>

#include "base/range.h"

namespace nbdkit {
namespace {

constexpr std::uint32_t kAlignMax = 64 * 1024;  // The largest minimum block size of the protocol.
constexpr std::uint32_t kPage = 4096;           // What the buffers of a pool are aligned to.

Result<struct stat> status_of(const std::string& name, int fd) {
  struct stat status;
  if (::fstat(fd, &status) != 0) return os_error(fmt::format("{}: fstat", name));
  if (S_ISREG(status.st_mode) || S_ISBLK(status.st_mode)) return status;
  if (S_ISDIR(status.st_mode)) {
    return Error(std::errc::is_a_directory,
                 fmt::format("{}: is a directory; dir={} serves the files in it", name, name));
  }
  return Error(std::errc::invalid_argument,
               fmt::format("{}: is neither a regular file nor a block device", name));
}

bool is_refused(int number) {
  return number == EACCES || number == EPERM || number == EROFS || number == ETXTBSY;
}

Result<UniqueFd> open_for(const std::string& name, const Opener& opener, OpenOptions options,
                          OpenedFile& file) {
  const int flags = O_CLOEXEC | O_NOCTTY | (options.direct ? O_DIRECT : 0);
  UniqueFd fd;
  if (!options.read_only) {
    fd.reset(opener(flags | O_RDWR));
    file.can_write = static_cast<bool>(fd);
  }
  if (!fd && (options.read_only || is_refused(errno))) fd.reset(opener(flags | O_RDONLY));
  if (fd) return fd;
  if (options.direct && errno == EINVAL) {
    return Error(
        std::errc::invalid_argument,
        fmt::format("{}: direct=true: this file system cannot do without the page cache", name));
  }
  return os_error(fmt::format("{}: open", name));
}

// A file that is deleted and made again may well get the number of the old one.
std::string identity_of(int fd, const struct stat& status) {
  if (S_ISBLK(status.st_mode)) {
    std::uint64_t sequence = 0;
    ::ioctl(fd, BLKGETDISKSEQ, &sequence);
    return fmt::format("block:{}:{}:{}", major(status.st_rdev), minor(status.st_rdev), sequence);
  }
  unsigned generation[2] = {0, 0};  // Some file systems write an int, some a long.
  ::ioctl(fd, FS_IOC_GETVERSION, generation);
  return fmt::format("file:{}:{}:{}:{}", major(status.st_dev), minor(status.st_dev), status.st_ino,
                     generation[0]);
}

bool block_is_rotational(dev_t device) {
  // A partition has no queue of its own.
  for (const char* place : {"queue", "../queue"}) {
    auto path =
        fmt::format("/sys/dev/block/{}:{}/{}/rotational", major(device), minor(device), place);
    UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    char digit = '0';
    if (fd && ::read(fd.get(), &digit, 1) == 1) return digit == '1';
  }
  return false;
}

// For kernels and file systems that do not tell: the smallest that works.
std::uint32_t probe_align(int fd) {
  void* page =
      ::mmap(nullptr, kAlignMax, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return 0;
  std::uint32_t align = 512;
  while (align <= kAlignMax && ::pread(fd, page, align, 0) < 0) align *= 2;
  ::munmap(page, kAlignMax);
  return align <= kAlignMax ? align : 0;
}

Result<void> find_alignment(OpenedFile& file) {
  struct statx status {};
  bool told = ::statx(file.fd.get(), "", AT_EMPTY_PATH, STATX_DIOALIGN, &status) == 0 &&
              (status.stx_mask & STATX_DIOALIGN) != 0;
  if (told) {
    file.align = status.stx_dio_offset_align;
    file.memory_align = status.stx_dio_mem_align;
  } else {
    file.align = file.is_block ? file.sector : probe_align(file.fd.get());
    file.memory_align = std::min(file.align, kPage);
  }
  if (is_power_of_2(file.align) && file.align <= kAlignMax && file.memory_align <= kPage) return {};
  return Error(
      std::errc::not_supported,
      fmt::format("{}: direct=true: this file cannot be used without the page cache", file.name));
}

Result<void> find_block_device(OpenedFile& file, const struct stat& status) {
  int sector = 512;
  if (::ioctl(file.fd.get(), BLKGETSIZE64, &file.size) != 0 ||
      ::ioctl(file.fd.get(), BLKSSZGET, &sector) != 0) {
    return os_error(fmt::format("{}: size of the device", file.name));
  }
  int read_only = 0;
  if (::ioctl(file.fd.get(), BLKROGET, &read_only) == 0 && read_only != 0) file.can_write = false;
  file.sector = static_cast<std::uint32_t>(sector);
  file.is_rotational = block_is_rotational(status.st_rdev);
  return {};
}

}  // namespace

Result<void> check_type(const std::string& name, int fd) {
  Result<struct stat> status = status_of(name, fd);
  if (!status.ok()) return std::move(status).error();
  return {};
}

Result<OpenedFile> open_file(std::string name, const Opener& opener, OpenOptions options) {
  // Opening a pipe or a tape for real would do something to it.
  UniqueFd place(opener(O_PATH | O_CLOEXEC));
  if (!place) return os_error(fmt::format("{}: open", name));
  NBDKIT_TRY(check_type(name, place.get()));

  OpenedFile file;
  file.name = std::move(name);
  Result<UniqueFd> fd = open_for(file.name, opener, options, file);
  if (!fd.ok()) return std::move(fd).error();
  file.fd = std::move(fd).value();
  Result<struct stat> found = status_of(file.name, file.fd.get());
  if (!found.ok()) return std::move(found).error();
  const struct stat& status = found.value();
  file.identity = identity_of(file.fd.get(), status);
  file.is_block = S_ISBLK(status.st_mode);
  file.size = static_cast<std::uint64_t>(status.st_size);
  file.io_size = std::bit_floor(
      static_cast<std::uint32_t>(std::clamp<blksize_t>(status.st_blksize, kPage, 1024 * 1024)));
  if (file.is_block) NBDKIT_TRY(find_block_device(file, status));
  file.can_map = !file.is_block && (::lseek(file.fd.get(), 0, SEEK_HOLE) >= 0 || errno == ENXIO);
  struct statfs system;
  file.in_memory = !file.is_block && ::fstatfs(file.fd.get(), &system) == 0 &&
                   (system.f_type == TMPFS_MAGIC || system.f_type == RAMFS_MAGIC);
  if (!options.direct) return file;

  NBDKIT_TRY(find_alignment(file));
  if (is_aligned(file.size, file.align)) return file;
  file.buffered.reset(opener(O_CLOEXEC | O_NOCTTY | (file.can_write ? O_RDWR : O_RDONLY)));
  if (!file.buffered) return os_error(fmt::format("{}: open", file.name));
  return file;
}

}  // namespace nbdkit
