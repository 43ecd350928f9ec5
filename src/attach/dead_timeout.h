// SPDX-License-Identifier: BSD-3-Clause
// Whether a device has been without a server for longer than its requests wait: then the driver has
// failed some, and a file system on it has seen errors. Nothing but the kernel's log tells it.
#pragma once

#include <cstdint>
#include <optional>

#include "base/parse.h"
#include "netlink/kernel_log.h"

namespace nbdkit {

// Where the log ends now, to be kept as a beginning for later; nothing when it cannot be read.
std::optional<std::uint64_t> end_of_kernel_log();

enum class DeadTimeout {
  waits,    // no request has failed for want of a server
  expired,  // one has
  unknown,  // the log is not to be had, or does not reach back as far
};

// Since `begin`.
DeadTimeout dead_timeout_of(std::uint32_t index, std::optional<std::uint64_t> begin);
DeadTimeout dead_timeout_of(const KernelLog& log, std::uint32_t index, std::uint64_t begin);

}  // namespace nbdkit
