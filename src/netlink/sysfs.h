// SPDX-License-Identifier: BSD-3-Clause
// Sysfs: what the kernel's files say about nbd devices, and the knobs that netlink does not have.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/parse.h"
#include "base/result.h"

namespace nbdkit {

struct NbdPartition {
  std::string name;  // "nbd0p1"
  std::uint64_t start = 0;
  std::uint64_t size = 0;            // bytes
  std::vector<std::string> holders;  // device mapper, md ...
};

// A snapshot of /sys/block/nbdN.
struct NbdDevice {
  std::uint32_t index = 0;
  dev_t number = 0;
  // The process that attached it; it may be gone. Absent: nothing is attached, and this, not what
  // STATUS says, is how "in use" is known.
  std::optional<std::int64_t> pid;
  std::string backend;           // identifier given at connect
  std::uint64_t size = 0;        // bytes
  std::uint64_t diskseq = 0;     // another one for every attachment; 0 when the kernel has none
  std::uint64_t block_size = 0;  // logical, bytes
  bool read_only = false;
  std::uint64_t reads_in_flight = 0;
  std::uint64_t writes_in_flight = 0;
  std::uint64_t io_timeout_ms = 0;
  std::uint64_t max_sectors_kb = 0;
  std::vector<std::string> holders;
  std::vector<NbdPartition> partitions;

  std::string node() const;  // "/dev/nbd0"
  bool attached() const { return pid.has_value(); }
};

// What users of a device have done since it is there: /sys/block/nbdN/stat. It goes on when the
// device is attached anew.
struct NbdCounters {
  struct Kind {
    std::uint64_t requests = 0;  // that are done
    std::uint64_t bytes = 0;
    std::uint64_t milliseconds = 0;  // that they took together
  };
  Kind reads;
  Kind writes;
  Kind trims;
  Kind flushes;  // without bytes
};

// A process that has the device or a partition of it open.
struct NbdOpener {
  std::int64_t pid = 0;
  std::string command;
};

// Any thread. Reading is quick, but setting may wait for the device's requests: never on a loop
// that answers them.
class Sysfs {
 public:
  // Where the files are; other places in tests.
  explicit Sysfs(std::string sys = "/sys", std::string proc = "/proc")
      : sys_(std::move(sys)), proc_(std::move(proc)) {}

  bool module_loaded() const;  // also true when the driver is built in

  // no_such_device_or_address when there is no such device.
  Result<NbdDevice> device(std::uint32_t index) const;
  Result<NbdCounters> counters(std::uint32_t index) const;
  // All that exist, by number; with attached_only those to which something is attached.
  std::vector<NbdDevice> devices(bool attached_only) const;

  // queue/io_timeout: with one connection and no request timeout, how often the driver looks
  // whether the socket of a waiting request has been replaced.
  Result<void> set_io_timeout(std::uint32_t index, Milliseconds timeout) const;

  // A file in the device's folder, such as queue/scheduler: its first line. Absent when there is no
  // such file, or what it is about is not there.
  std::optional<std::string> attribute(std::uint32_t index, std::string_view name) const;
  Result<void> set_attribute(std::uint32_t index, std::string_view name,
                             std::string_view value) const;

  // Looks through every process that may be looked into, without opening the device.
  std::vector<NbdOpener> openers(std::uint32_t index) const;

 private:
  std::string attribute_path(std::uint32_t index, std::string_view name) const;

  std::string sys_;
  std::string proc_;
};

// The number in "/dev/nbd12" or "nbd12"; invalid_argument for anything else.
Result<std::uint32_t> parse_device_name(std::string_view name);

}  // namespace nbdkit
