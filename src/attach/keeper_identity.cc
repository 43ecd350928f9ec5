// SPDX-License-Identifier: BSD-3-Clause
#include "attach/keeper_identity.h"

#include <fmt/format.h>

#include <fstream>
#include <sstream>

namespace nbdkit {

std::string boot_id() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string id;
  std::getline(file, id);
  return id;
}

std::uint64_t process_start_time(pid_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string line;
  std::getline(file, line);
  // The command, field 2, may hold anything, but ends with the last parenthesis.
  std::size_t end = line.rfind(')');
  if (end == std::string::npos) return 0;
  std::istringstream fields(line.substr(end + 1));
  constexpr int kFieldsBefore = 19;  // 3 to 21
  std::string field;
  for (int i = 0; i < kFieldsBefore; ++i) fields >> field;
  std::uint64_t ticks = 0;
  fields >> ticks;
  return ticks;
}

}  // namespace nbdkit
