// SPDX-License-Identifier: BSD-3-Clause
#include "attach/orphans.h"

#include <dirent.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <memory>
#include <string>
#include <thread>

namespace nbdkit {
namespace {

constexpr Milliseconds kPause{10};

// -1 when there is no such process any more.
pid_t parent_of(pid_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string line;
  std::getline(file, line);
  // The name may have anything in it: "1 (a) S 5) S 0 ..."
  std::size_t end = line.rfind(") ");
  if (end == std::string::npos || line.size() < end + 5) return -1;
  std::string_view rest = std::string_view(line).substr(end + 4);
  auto parent = parse_unsigned(rest.substr(0, rest.find(' ')), 1u << 30);
  return parent.ok() ? static_cast<pid_t>(parent.value()) : -1;
}

}  // namespace

Result<void> Orphans::adopt() {
  if (::prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0) return os_error("prctl");
  spared_.clear();
  spared_ = children(0);
  return {};
}

std::vector<pid_t> Orphans::children(pid_t spared) const {
  std::vector<pid_t> found;
  std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir("/proc"), ::closedir);
  if (!folder) return found;
  while (dirent* entry = ::readdir(folder.get())) {
    auto number = parse_unsigned(entry->d_name, 1u << 30);
    if (!number.ok()) continue;
    auto pid = static_cast<pid_t>(number.value());
    bool ours = pid == spared || std::find(spared_.begin(), spared_.end(), pid) != spared_.end();
    if (!ours && parent_of(pid) == ::getpid()) found.push_back(pid);
  }
  return found;
}

std::vector<pid_t> Orphans::end(Milliseconds limit, pid_t spared) const {
  auto until = std::chrono::steady_clock::now() + limit;
  for (;;) {
    std::vector<pid_t> left = children(spared);
    // A child's number cannot become another process's before we have reaped it.
    for (pid_t pid : left) ::kill(pid, SIGKILL);
    if (left.empty()) return left;
    std::this_thread::sleep_for(kPause);
    for (pid_t pid : left) ::waitpid(pid, nullptr, WNOHANG);
    if (std::chrono::steady_clock::now() >= until) return children(spared);
  }
}

}  // namespace nbdkit
