// SPDX-License-Identifier: BSD-3-Clause
#include "base/log.h"

#include <unistd.h>

#include <cerrno>

namespace nbdkit {
namespace {

std::string_view word(LogLevel level) {
  switch (level) {
    case LogLevel::error:
      return "error: ";
    case LogLevel::warning:
      return "warning: ";
    case LogLevel::debug:
      return "debug: ";
  }
  return "";
}

}  // namespace

Log::Log(std::string program, bool verbose, int fd)
    : program_(std::move(program)), verbose_(verbose), fd_(fd) {}

void Log::write(LogLevel level, std::string_view who, std::string_view text) {
  while (!text.empty() && text.back() == '\n') text.remove_suffix(1);
  std::string line;
  line.reserve(program_.size() + who.size() + text.size() + 16);
  line.append(program_).append(": ");
  if (!who.empty()) line.append(who).append(": ");
  line.append(word(level)).append(text);
  if (line.size() >= kLogLineMax) line.resize(kLogLineMax - 1);
  line.push_back('\n');
  // A log that cannot be written has nobody left to be told; the callers' errno is theirs.
  int saved = errno;
  while (::write(fd_, line.data(), line.size()) < 0 && errno == EINTR) {
  }
  errno = saved;
}

}  // namespace nbdkit
