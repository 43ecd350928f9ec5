// SPDX-License-Identifier: BSD-3-Clause
// Whether descriptors are left behind, and what happens when there are none.
#pragma once

#include <fcntl.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

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

// While it lives, this process can open only so many descriptors more.
class DescriptorShortage {
 public:
  explicit DescriptorShortage(int spare) {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    int lowest_free = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    ::close(lowest_free);
    rlimit limit = before_;
    limit.rlim_cur = static_cast<rlim_t>(lowest_free + spare);
    ::setrlimit(RLIMIT_NOFILE, &limit);
  }
  DescriptorShortage(const DescriptorShortage&) = delete;
  DescriptorShortage& operator=(const DescriptorShortage&) = delete;
  ~DescriptorShortage() { ::setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
};

}  // namespace nbdkit
