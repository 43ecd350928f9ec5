// SPDX-License-Identifier: BSD-3-Clause
// ServerLog: the log of nbdkit. It goes to stderr; in the background, where nobody reads that,
// errors go to the system log.
#pragma once

#include <atomic>
#include <string>

#include "base/log.h"

namespace nbdkit {

// There is one in the process: syslog() keeps the program's name.
class ServerLog final : public Log {
 public:
  ServerLog(std::string program, bool verbose) : Log(std::move(program), verbose) {}

  // From now on errors and warnings go to the system log. Debug messages stay on stderr.
  void use_system_log();

  void write(LogLevel level, std::string_view who, std::string_view text) override;

 private:
  std::string name_;
  std::atomic<bool> system_log_{false};
};

}  // namespace nbdkit
