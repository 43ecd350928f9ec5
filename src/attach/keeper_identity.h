// SPDX-License-Identifier: BSD-3-Clause
// What tells a process from a later one with the same number.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>

namespace nbdkit {

// Of this boot of the kernel; empty when it cannot be read.
std::string boot_id();

// In clock ticks since boot; 0 when there is no such process.
std::uint64_t process_start_time(pid_t pid);

}  // namespace nbdkit
