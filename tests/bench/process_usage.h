// SPDX-License-Identifier: BSD-3-Clause
// What a process has used, exactly.
#pragma once

#include <cstdint>

namespace nbdkit::bench {

// Nanoseconds on a CPU of all threads that live now, as the scheduler counts them: user and system
// time are sampled by the tick, and off by any factor for a server that wakes often.
std::uint64_t cpu_ns(int pid);

// Anonymous memory, page tables and kernel stacks in KiB.
std::uint64_t memory_kib(int pid);

}  // namespace nbdkit::bench
