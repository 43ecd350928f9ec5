// SPDX-License-Identifier: BSD-3-Clause
// nbdkit_read_password: a secret from the command line, the terminal, a descriptor or a file.

#include <fcntl.h>
#include <termios.h>
#include <unistd.h>

#include <cstdlib>
#include <limits>

#include "base/parse.h"
#include "base/unique_fd.h"
#include "plugin_host/api/caller.h"

namespace nbdkit {
namespace {

constexpr std::size_t kPasswordMax = 64 * 1024;

Result<std::string> first_line(int fd, std::string_view what) {
  std::string line;
  for (;;) {
    char c = 0;
    ssize_t got = ::read(fd, &c, 1);  // No byte behind the line is taken: it may be a terminal.
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return os_error(what);
    if (got == 0 || c == '\n') return line;
    if (line.size() == kPasswordMax) {
      return Error(std::errc::invalid_argument, fmt::format("{}: the line is too long", what));
    }
    line.push_back(c);
  }
}

// The terminal does not show what is typed meanwhile.
class EchoOff {
 public:
  explicit EchoOff(int terminal) : terminal_(terminal) {
    if (::tcgetattr(terminal, &before_) != 0) return;
    termios silent = before_;
    silent.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    changed_ = ::tcsetattr(terminal, TCSAFLUSH, &silent) == 0;
  }
  ~EchoOff() {
    if (changed_) ::tcsetattr(terminal_, TCSAFLUSH, &before_);
  }
  EchoOff(const EchoOff&) = delete;
  EchoOff& operator=(const EchoOff&) = delete;

 private:
  int terminal_;
  termios before_{};
  bool changed_ = false;
};

Result<std::string> ask_at_terminal() {
  if (nbdkit_stdio_safe() == 0 || ::isatty(STDIN_FILENO) == 0) {
    return Error(std::errc::invalid_argument,
                 "password=-: stdin is no terminal where the password could be asked for; "
                 "use +FILE or -FD");
  }
  (void)!::write(STDOUT_FILENO, "password: ", 10);
  EchoOff echo(STDIN_FILENO);
  Result<std::string> line = first_line(STDIN_FILENO, "password");
  (void)!::write(STDOUT_FILENO, "\n", 1);
  return line;
}

Result<std::string> read_from_descriptor(std::string_view number) {
  Result<std::int64_t> fd = parse_signed(number, 0, std::numeric_limits<int>::max());
  if (!fd.ok()) return std::move(fd).error();
  if (fd.value() <= STDERR_FILENO) {
    return Error(std::errc::invalid_argument,
                 fmt::format("password=-{}: descriptors 0, 1 and 2 are not for passwords", number));
  }
  UniqueFd source(static_cast<int>(fd.value()));
  return first_line(source.get(), fmt::format("password=-{}", number));
}

Result<std::string> read_from_file(const char* path) {
  UniqueFd file(::open(path, O_RDONLY | O_CLOEXEC));
  if (!file) return os_error(path);
  return first_line(file.get(), path);
}

Result<std::string> find_password(const char* value) {
  if (value[0] == '+') return read_from_file(value + 1);
  if (value[0] == '-')
    return value[1] == '\0' ? ask_at_terminal() : read_from_descriptor(value + 1);
  return std::string(value);
}

}  // namespace
}  // namespace nbdkit

using namespace nbdkit;

extern "C" int nbdkit_read_password(const char* value, char** password) {
  *password = nullptr;
  Result<std::string> found = find_password(value);
  if (!found.ok()) return failed("{}", found.error().message());
  *password = duplicate(found.value());
  return *password != nullptr ? 0 : -1;
}
