// SPDX-License-Identifier: BSD-3-Clause
#include "attach/device_node.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/blkpg.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "netlink/exit_code.h"

namespace nbdkit {
namespace {

constexpr int kPartitionsMax = 256;  // the driver's nodes have room for 255

Result<UniqueFd> open_node(const std::string& node, dev_t number, int flags) {
  UniqueFd fd(::open(node.c_str(), O_RDONLY | O_CLOEXEC | flags));
  if (!fd) return os_error(node);
  struct stat status;
  if (::fstat(fd.get(), &status) < 0) return os_error(node);
  if (!S_ISBLK(status.st_mode) || status.st_rdev != number) {
    return attach_error(ExitCode::failure,
                        fmt::format("{0}: is not the nbd device; remove {0} and try again", node));
  }
  return fd;
}

}  // namespace

Result<std::uint64_t> scan_device(const std::string& node, dev_t number) {
  Result<UniqueFd> fd = open_node(node, number, 0);
  if (!fd.ok()) return std::move(fd).error();
  std::uint64_t size = 0;
  if (::ioctl(fd.value().get(), BLKGETSIZE64, &size) < 0) return os_error(node);
  // `blockdev --setro` of an earlier user. Whether the export can be written to is the driver's.
  int read_only = 0;
  if (::ioctl(fd.value().get(), BLKROSET, &read_only) < 0) return os_error(node);
  return size;
}

Result<void> reread_partitions(const std::string& node, dev_t number) {
  Result<UniqueFd> fd = open_node(node, number, 0);
  if (!fd.ok()) return std::move(fd).error();
  if (::ioctl(fd.value().get(), BLKFLSBUF, 0) < 0) return os_error(node + ": BLKFLSBUF");
  // EINVAL: of a driver without partitions (max_part=0).
  if (::ioctl(fd.value().get(), BLKRRPART, 0) == 0 || errno == EINVAL) return {};
  return os_error(node + ": reading the partition table");
}

Result<UniqueFd> claim_device(const std::string& node, dev_t number) {
  Result<UniqueFd> fd = open_node(node, number, O_EXCL);
  if (!fd.ok()) {
    if (fd.error().code != std::errc::device_or_resource_busy) return fd;
    return attach_error(ExitCode::busy,
                        fmt::format("{} is in use: something that cannot be seen has claimed it, "
                                    "such as a file system that was unmounted lazily and still "
                                    "has open files; end that first, or lose data with --force",
                                    node));
  }
  if (::flock(fd.value().get(), LOCK_EX | LOCK_NB) < 0) {
    return attach_error(ExitCode::busy,
                        fmt::format("{} is in use: another program locks it; wait for that, or "
                                    "override it with --force",
                                    node));
  }
  return fd;
}

Result<void> flush_device(int fd, const std::string& node) {
  if (::fsync(fd) < 0) return os_error(fmt::format("{}: writing back what is cached", node));
  // Drops what is cached of the disk itself: the next device of this name starts afresh.
  if (::ioctl(fd, BLKFLSBUF, 0) < 0) return os_error(fmt::format("{}: BLKFLSBUF", node));
  return {};
}

Result<void> forget_cached(const std::string& node, dev_t number) {
  Result<UniqueFd> fd = open_node(node, number, 0);
  if (!fd.ok()) return std::move(fd).error();
  if (::ioctl(fd.value().get(), BLKFLSBUF, 0) < 0) return os_error(node + ": BLKFLSBUF");
  return {};
}

void drop_partitions(int fd) {
  for (int number = 1; number < kPartitionsMax; ++number) {
    blkpg_partition partition{};
    partition.pno = number;
    blkpg_ioctl_arg argument{};
    argument.op = BLKPG_DEL_PARTITION;
    argument.datalen = sizeof(partition);
    argument.data = &partition;
    ::ioctl(fd, BLKPG, &argument);
  }
}

}  // namespace nbdkit
