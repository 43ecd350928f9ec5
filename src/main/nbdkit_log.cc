// SPDX-License-Identifier: BSD-3-Clause
#include "main/nbdkit_log.h"

#include <syslog.h>

#include <cerrno>

namespace nbdkit {

void ServerLog::use_system_log() {
  // Keeps the pointer.
  name_ = program();
  // Connected now: when descriptors have run out it is too late, and that is to be said there.
  ::openlog(name_.c_str(), LOG_PID | LOG_NDELAY, LOG_DAEMON);
  system_log_ = true;
}

void ServerLog::write(LogLevel level, std::string_view who, std::string_view text) {
  if (level == LogLevel::debug || !system_log_) return Log::write(level, who, text);
  int saved = errno;
  std::string speaker = who.empty() ? "" : std::string(who) + ": ";
  ::syslog(level == LogLevel::error ? LOG_ERR : LOG_WARNING, "%s%.*s", speaker.c_str(),
           static_cast<int>(text.size()), text.data());
  errno = saved;
}

}  // namespace nbdkit
