// SPDX-License-Identifier: BSD-3-Clause
// Who uses a device and would lose data when it goes.
#pragma once

#include <string>
#include <vector>

#include "netlink/sysfs.h"

namespace nbdkit {

struct DeviceUse {
  enum class Kind { mounted, swap, held, opened };

  Kind kind;
  std::string text;  // "mounted on /mnt", "/dev/nbd0p1 is used as swap" ...
  // udev looks at every device for a moment: such a use goes away by itself.
  bool passing = false;
};

// Where the kernel's files are; other places in tests.
struct KernelFiles {
  std::string sys = "/sys";
  std::string proc = "/proc";
};

// Of the device and its partitions: file systems in any mount namespace that can be read, swap,
// device mapper and the like, loop devices, and processes that have it open. Reads the kernel's
// files only: the device is not opened, nothing can hang.
std::vector<DeviceUse> find_uses(const KernelFiles& files, const NbdDevice& device);

// "mounted on /mnt; open in process 12 (dd)", at most the first four.
std::string describe_uses(const std::vector<DeviceUse>& uses);

}  // namespace nbdkit
