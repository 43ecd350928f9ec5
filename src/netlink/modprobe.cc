// SPDX-License-Identifier: BSD-3-Clause
#include "netlink/modprobe.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>

#include "async/child.h"
#include "base/check.h"
#include "base/unique_fd.h"
#include "netlink/exit_code.h"

namespace nbdkit {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::size_t kWordsMax = 1024;

struct Child {
  pid_t pid;
  UniqueFd output;
};

std::string kernels_modprobe() {
  UniqueFd file(::open("/proc/sys/kernel/modprobe", O_RDONLY | O_CLOEXEC));
  std::array<char, 256> buffer;
  ssize_t got = file ? ::read(file.get(), buffer.data(), buffer.size()) : 0;
  std::string path(buffer.data(), static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
  path.resize(std::min(path.find('\n'), path.size()));
  return path.empty() ? "/sbin/modprobe" : path;
}

// With its stdout and stderr in a pipe, no signals blocked or ignored, and no environment of ours.
Result<Child> spawn(const std::string& program, const std::vector<std::string>& arguments) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) < 0) return os_error("pipe");
  UniqueFd reader(ends[0]);
  UniqueFd writer(ends[1]);

  std::vector<char*> argv{const_cast<char*>(program.c_str())};
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  std::string path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
  std::string language = "LC_ALL=C";
  std::array<char*, 3> environment{path.data(), language.data(), nullptr};

  posix_spawn_file_actions_t files;
  NBDKIT_CHECK(::posix_spawn_file_actions_init(&files) == 0);
  ::posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
  ::posix_spawn_file_actions_adddup2(&files, writer.get(), 1);
  ::posix_spawn_file_actions_adddup2(&files, writer.get(), 2);
  posix_spawnattr_t attributes;
  NBDKIT_CHECK(::posix_spawnattr_init(&attributes) == 0);
  sigset_t none;
  sigset_t all;
  ::sigemptyset(&none);
  ::sigfillset(&all);
  ::posix_spawnattr_setsigmask(&attributes, &none);
  ::posix_spawnattr_setsigdefault(&attributes, &all);
  ::posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);

  pid_t pid = 0;
  int error =
      ::posix_spawn(&pid, program.c_str(), &files, &attributes, argv.data(), environment.data());
  ::posix_spawnattr_destroy(&attributes);
  ::posix_spawn_file_actions_destroy(&files);
  if (error != 0) return os_error(program, error);
  make_child_ordinary(pid);
  return Child{pid, std::move(reader)};
}

// What it says until it closes its output; false when it did not by then.
bool read_all(const UniqueFd& output, Clock::time_point until, std::string& text) {
  for (;;) {
    auto left = std::chrono::ceil<Milliseconds>(until - Clock::now());
    if (left <= Milliseconds(0)) return false;
    pollfd readable{output.get(), POLLIN, 0};
    if (::poll(&readable, 1, static_cast<int>(left.count())) <= 0) continue;
    std::array<char, 512> buffer;
    ssize_t got = ::read(output.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return true;
    text.append(buffer.data(), std::min<std::size_t>(static_cast<std::size_t>(got),
                                                     kWordsMax - std::min(text.size(), kWordsMax)));
  }
}

std::string one_line(std::string text) {
  while (!text.empty() && text.back() == '\n') text.pop_back();
  for (std::size_t at = 0; (at = text.find('\n', at)) != std::string::npos;) {
    text.replace(at, 1, "; ");
  }
  return text;
}

Error not_loaded(std::string_view why) {
  return attach_error(
      ExitCode::no_module,
      fmt::format("kernel module nbd is not loaded and could not be loaded ({})", why));
}

}  // namespace

Result<void> load_nbd_module(const Modprobe& modprobe) {
  const std::string program = modprobe.program.empty() ? kernels_modprobe() : modprobe.program;
  auto child = spawn(program, modprobe.arguments);
  if (!child.ok()) return not_loaded(child.error().message());
  std::string words;
  bool ended = read_all(child.value().output, Clock::now() + modprobe.limit, words);
  if (!ended) ::kill(child.value().pid, SIGKILL);
  int status = 0;
  while (::waitpid(child.value().pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (!ended) return not_loaded(fmt::format("{} did not end in time", program));
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  words = one_line(std::move(words));
  if (words.empty()) {
    words = WIFEXITED(status) ? fmt::format("{}: exit status {}", program, WEXITSTATUS(status))
                              : fmt::format("{}: killed by signal {}", program, WTERMSIG(status));
  }
  return not_loaded(words);
}

}  // namespace nbdkit
