// SPDX-License-Identifier: BSD-3-Clause
#include "attach/bounded_call.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <string_view>

#include "base/unique_fd.h"

namespace nbdkit {
namespace {

using Clock = std::chrono::steady_clock;

[[noreturn]] void run(const std::function<std::string()>& find_out, int out) {
  const std::string found = find_out();
  for (std::string_view left = found; !left.empty();) {
    ssize_t written = ::write(out, left.data(), left.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) break;
    left.remove_prefix(static_cast<std::size_t>(written));
  }
  ::_exit(0);
}

// Until its end; false when that does not come.
bool read_all(int fd, Clock::time_point until, std::size_t size_max, std::string& into) {
  std::array<char, 16 * 1024> buffer;
  for (;;) {
    auto left = std::chrono::ceil<Milliseconds>(until - Clock::now());
    if (left <= Milliseconds(0)) return false;
    pollfd poll{fd, POLLIN, 0};
    int count = ::poll(&poll, 1, static_cast<int>(left.count()));
    if (count < 0 && errno != EINTR) return false;
    if (count <= 0) continue;
    ssize_t length = ::read(fd, buffer.data(), buffer.size());
    if (length < 0 && errno == EINTR) continue;
    if (length <= 0) return length == 0;
    std::size_t room = size_max - into.size();
    into.append(buffer.data(), std::min(room, static_cast<std::size_t>(length)));
  }
}

// One that the kernel does not let go is somebody else's to wait for.
void end(pid_t child) {
  constexpr Milliseconds kPause{10};
  constexpr int kTries = 50;
  ::kill(child, SIGKILL);
  for (int i = 0; i < kTries && ::waitpid(child, nullptr, WNOHANG) == 0; ++i) {
    ::poll(nullptr, 0, static_cast<int>(kPause.count()));
  }
}

}  // namespace

Result<std::string> bounded_call(const std::function<std::string()>& find_out, Milliseconds limit,
                                 std::size_t size_max) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) < 0) return os_error("pipe");
  UniqueFd in(ends[0]);
  UniqueFd out(ends[1]);
  pid_t child = ::fork();
  if (child < 0) return os_error("fork");
  if (child == 0) {
    in.reset();
    run(find_out, out.get());
  }
  out.reset();
  std::string found;
  bool whole = read_all(in.get(), Clock::now() + limit, size_max, found);
  end(child);
  if (whole) return found;
  return Error(std::errc::timed_out, fmt::format("nothing came back within {:.0f} s",
                                                 std::chrono::duration<double>(limit).count()));
}

}  // namespace nbdkit
