// SPDX-License-Identifier: BSD-3-Clause
#include "bench/process_usage.h"

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <string>

namespace nbdkit::bench {
namespace {

constexpr std::uint64_t kKernelStackKib = 16;  // of each thread, on x86-64 and arm64

std::filesystem::path folder_of(int pid) { return fmt::format("/proc/{}", pid); }

}  // namespace

std::uint64_t cpu_ns(int pid) {
  std::uint64_t sum = 0;
  std::error_code gone;
  for (const auto& task : std::filesystem::directory_iterator(folder_of(pid) / "task", gone)) {
    std::ifstream file(task.path() / "schedstat");
    std::uint64_t ns = 0;
    if (file >> ns) sum += ns;
  }
  return sum;
}

std::uint64_t memory_kib(int pid) {
  std::ifstream file(folder_of(pid) / "status");
  std::uint64_t sum = 0;
  std::string word;
  while (file >> word) {
    std::uint64_t value = 0;
    if (word == "RssAnon:" || word == "VmPTE:") {
      if (file >> value) sum += value;
    } else if (word == "Threads:") {
      if (file >> value) sum += value * kKernelStackKib;
    }
  }
  return sum;
}

}  // namespace nbdkit::bench
