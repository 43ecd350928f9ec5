// SPDX-License-Identifier: BSD-3-Clause
#include "server_program.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <utility>

namespace nbdkit {
namespace {

constexpr int kFirstListenFd = 3;  // sd_listen_fds(3)

// What a program expects to find, whatever this one has done to itself.
void restore_signals() {
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::signal(SIGPIPE, SIG_DFL);
}

// In the child. Writes the errno to `report` when the program cannot be run.
[[noreturn]] void become(const std::vector<char*>& argv, UniqueFd listener, int report) {
  restore_signals();
  // It must not outlive a server that is killed: its data would be held by nobody and everybody.
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  const std::string pid = std::to_string(::getpid());
  ::setenv("LISTEN_PID", pid.c_str(), 1);
  ::setenv("LISTEN_FDS", "1", 1);
  ::setenv("LISTEN_FDNAMES", "nbd", 1);
  // dup2() of a descriptor to itself would leave it close-on-exec.
  if (listener.get() == kFirstListenFd) {
    ::fcntl(kFirstListenFd, F_SETFD, 0);
  } else {
    if (report == kFirstListenFd) report = ::fcntl(report, F_DUPFD_CLOEXEC, kFirstListenFd + 1);
    ::dup2(listener.get(), kFirstListenFd);
  }
  ::execvp(argv[0], argv.data());
  const int error = errno;
  ssize_t written = ::write(report, &error, sizeof error);
  static_cast<void>(written);
  ::_exit(127);
}

}  // namespace

Result<std::unique_ptr<ServerProgram>> ServerProgram::start(const std::vector<std::string>& argv) {
  std::unique_ptr<ServerProgram> command(new ServerProgram);
  Result<UniqueFd> listener = command->listen();
  if (!listener.ok()) return std::move(listener).error();
  NBDKIT_TRY(command->run(argv, std::move(listener).value()));
  return command;
}

Result<UniqueFd> ServerProgram::listen() {
  char name[] = "/tmp/nbdkitXXXXXX";
  if (::mkdtemp(name) == nullptr) return os_error("mkdtemp");
  folder_ = name;
  path_ = folder_ + "/socket";
  UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!listener) return os_error("socket");
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path_.data(), path_.size());
  const auto* where = reinterpret_cast<const sockaddr*>(&address);
  if (::bind(listener.get(), where, sizeof address) < 0) return os_error(path_);
  if (::listen(listener.get(), SOMAXCONN) < 0) return os_error(path_);
  return listener;
}

Result<void> ServerProgram::run(const std::vector<std::string>& argv, UniqueFd listener) {
  std::vector<char*> pointers;
  for (const std::string& one : argv) pointers.push_back(const_cast<char*>(one.c_str()));
  pointers.push_back(nullptr);
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) < 0) return os_error("pipe");
  UniqueFd result(ends[0]);
  UniqueFd report(ends[1]);
  pid_ = ::fork();
  if (pid_ < 0) return os_error("fork");
  if (pid_ == 0) become(pointers, std::move(listener), report.get());
  report.reset();
  int error = 0;
  if (::read(result.get(), &error, sizeof error) == sizeof error) return os_error(argv[0], error);
  return {};
}

void ServerProgram::forget_socket() {
  if (path_.empty()) return;
  ::unlink(path_.c_str());
  ::rmdir(folder_.c_str());
  path_.clear();
}

ServerProgram::~ServerProgram() {
  forget_socket();
  if (pid_ <= 0) return;
  ::kill(pid_, SIGTERM);  // It has not been waited for, so the number is its own.
  UniqueFd process(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
  pollfd end{process.get(), POLLIN, 0};
  const auto patience = std::chrono::duration_cast<Milliseconds>(kPatience);
  if (!process || ::poll(&end, 1, static_cast<int>(patience.count())) <= 0) {
    ::kill(pid_, SIGKILL);
  }
  ::waitpid(pid_, nullptr, 0);
}

}  // namespace nbdkit
