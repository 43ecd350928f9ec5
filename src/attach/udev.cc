// SPDX-License-Identifier: BSD-3-Clause
#include "attach/udev.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <string>

#include "attach/child_process.h"

namespace nbdkit {
namespace {

// Not from PATH: this runs as root.
constexpr std::array kPrograms{"/usr/bin/udevadm", "/bin/udevadm", "/sbin/udevadm"};

}  // namespace

bool udev_is_running() { return ::access("/run/udev/control", F_OK) == 0; }

Result<void> settle_udev(Seconds limit) {
  if (!udev_is_running()) return {};
  ProcessRequest request;
  for (const char* program : kPrograms) {
    if (request.program.empty() && ::access(program, X_OK) == 0) request.program = program;
  }
  if (request.program.empty()) return {};
  request.arguments = {"udevadm", "settle", "--timeout=" + std::to_string(limit.count())};
  Result<ChildProcess> child = ChildProcess::start(request);
  if (!child.ok()) return std::move(child).error();
  // A second more than it needs to give up by itself.
  std::optional<int> status = child.value().wait(limit + Seconds(1));
  if (!status) {
    child.value().signal(SIGKILL);
    child.value().wait(Seconds(1));
  }
  if (!status || !WIFEXITED(*status) || WEXITSTATUS(*status) != 0) {
    return Error(std::errc::timed_out,
                 "udev is still busy after " + std::to_string(limit.count()) + " s");
  }
  return {};
}

}  // namespace nbdkit
