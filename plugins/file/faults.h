// SPDX-License-Identifier: BSD-3-Clause
// Faults: what the kernel's answers shall be in a test. The test program has functions of the C
// library's names, which the plugin then calls.
#pragma once

#include <atomic>
#include <cstddef>
#include <limits>

namespace nbdkit {

struct Faults {
  // An errno with which every call fails; 0: none.
  std::atomic<int> fdatasync{0};
  std::atomic<int> durable_write{0};  // pwritev2 with RWF_DSYNC
  std::atomic<int> plain_write{0};    // pwritev2 without any flag
  std::atomic<int> read_now{0};       // preadv2 with RWF_NOWAIT
  std::atomic<int> write_now{0};      // pwritev2 with RWF_NOWAIT
  std::atomic<int> fallocate{0};
  std::atomic<int> zero_range{0};  // fallocate with FALLOC_FL_ZERO_RANGE
  // No read or write does more at once.
  std::atomic<std::size_t> io_max{std::numeric_limits<std::size_t>::max()};

  // How often they were called.
  std::atomic<int> fdatasyncs{0};
  std::atomic<int> durable_writes{0};
  std::atomic<int> odd_addresses{0};  // writes from memory that is not aligned to 512 bytes
  std::atomic<int> reads_now{0};
  std::atomic<int> fallocates{0};
  std::atomic<int> dropped{0};  // posix_fadvise(DONTNEED)
  std::atomic<int> advice{-1};  // the last other advice
};

// The program's.
Faults& faults();
// Back to what the kernel says; all counts are 0.
void reset_faults();

}  // namespace nbdkit
