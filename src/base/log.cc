// SPDX-License-Identifier: BSD-3-Clause
#include "base/log.h"

#include <unistd.h>

#include <array>
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
  std::array<char, kLogLineMax> line;
  std::size_t size = 0;
  for (std::string_view part : {std::string_view(program_), std::string_view(": "), who,
                                std::string_view(who.empty() ? "" : ": "), word(level), text}) {
    size += part.copy(line.data() + size, line.size() - 1 - size);
  }
  line[size++] = '\n';
  // A log that cannot be written has nobody left to be told; the callers' errno is theirs.
  int saved = errno;
  while (::write(fd_, line.data(), size) < 0 && errno == EINTR) {
  }
  errno = saved;
}

}  // namespace nbdkit
