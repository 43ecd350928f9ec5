// SPDX-License-Identifier: BSD-3-Clause
// Loads the kernel's nbd driver.
#pragma once

#include <string>
#include <vector>

#include "base/parse.h"
#include "base/result.h"

namespace nbdkit {

struct Modprobe {
  // Empty: the program that the kernel itself uses (/proc/sys/kernel/modprobe).
  std::string program;
  // No idle devices that udev opens and that lsblk shows; partitions like any disk.
  std::vector<std::string> arguments{"nbd", "nbds_max=0", "max_part=31"};
  Seconds limit{30};
};

// Blocks. no_such_device with modprobe's own words when it fails.
Result<void> load_nbd_module(const Modprobe& modprobe = {});

}  // namespace nbdkit
