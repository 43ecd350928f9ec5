// SPDX-License-Identifier: BSD-3-Clause
#include "async/child.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <pthread.h>
#include <unistd.h>

#include <cerrno>

namespace nbdkit {
namespace {

bool children_are_ordinary = false;

}  // namespace

void make_children_ordinary() {
  if (children_are_ordinary) return;
  children_are_ordinary = true;
  ::pthread_atfork(nullptr, nullptr, [] { make_child_ordinary(0); });
}

// No UniqueFd: after vfork() everything here is the parent's.
void make_child_ordinary(pid_t child) noexcept {
  if (!children_are_ordinary) return;
  const int saved = errno;
  char path[40] = "/proc/self/oom_score_adj";
  if (child != 0) *fmt::format_to(path, "/proc/{}/oom_score_adj", child) = '\0';
  const int file = ::open(path, O_WRONLY | O_CLOEXEC);
  if (file >= 0) {
    // A child that has ended already needs nothing.
    [[maybe_unused]] ssize_t written = ::write(file, "0", 1);
    ::close(file);
  }
  errno = saved;
}

}  // namespace nbdkit
