// SPDX-License-Identifier: BSD-3-Clause
// What is done to a device through its node. Every call here may wait for the server that answers
// for the device, for ever when that is dead: only on a Helper, never on the keeper's loop.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace nbdkit {

// Opens the node once: that makes the kernel read the partition table, also without udev. Nobody
// before us has made it read-only then. Ends with the device's size in bytes.
// no_such_file_or_directory while the node is missing.
Result<std::uint64_t> scan_device(const std::string& node, dev_t number);

// The kernel reads the partition table again, and nothing of what it has kept of the device. Busy
// while somebody has a partition open.
Result<void> reread_partitions(const std::string& node, dev_t number);

// Opens it exclusively and locks it: no mount, no udev while it is held. Busy when somebody has
// claimed it (mounted, part of a volume, swap) or locked it.
Result<UniqueFd> claim_device(const std::string& node, dev_t number);

// Everything that was written reaches the server and is flushed there; the page cache is empty
// afterwards.
Result<void> flush_device(int fd, const std::string& node);

// What the page cache has of it is read anew, unless it is dirty or in use.
Result<void> forget_cached(const std::string& node, dev_t number);

// Takes the partitions away. Those that are in use stay.
void drop_partitions(int fd);

}  // namespace nbdkit
