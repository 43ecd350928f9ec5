// SPDX-License-Identifier: BSD-3-Clause
// Whether descriptors are left behind.
#pragma once

#include <sched.h>

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <iterator>

namespace nbdkit {

inline std::size_t open_files() {
  namespace fs = std::filesystem;
  return static_cast<std::size_t>(
      std::distance(fs::directory_iterator("/proc/self/fd"), fs::directory_iterator()));
}

// Other threads may still be closing some: false when there are more after a long while.
inline bool open_files_return_to(std::size_t count) {
  const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  while (open_files() != count) {
    if (std::chrono::steady_clock::now() > until) return false;
    ::sched_yield();
  }
  return true;
}

}  // namespace nbdkit
