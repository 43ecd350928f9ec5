// SPDX-License-Identifier: BSD-3-Clause
#include "main/nbdkit_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <utility>

#include "base/parse.h"

namespace nbdkit {
namespace {

Error bad(std::string text) { return Error(std::errc::invalid_argument, std::move(text)); }

// A number that no user or group has: chown() and setuid() take it for "no change".
constexpr std::uint64_t kIdMax = UINT32_MAX - 1;

Result<uid_t> find_user(const std::string& name) {
  if (const passwd* entry = ::getpwnam(name.c_str())) return entry->pw_uid;
  Result<std::uint64_t> number = parse_unsigned(name, kIdMax);
  if (!number.ok()) return bad(fmt::format("-u: {} is not a valid user name or uid", name));
  return static_cast<uid_t>(number.value());
}

Result<gid_t> find_group(const std::string& name) {
  if (const group* entry = ::getgrnam(name.c_str())) return entry->gr_gid;
  Result<std::uint64_t> number = parse_unsigned(name, kIdMax);
  if (!number.ok()) return bad(fmt::format("-g: {} is not a valid group name or gid", name));
  return static_cast<gid_t>(number.value());
}

Error change_error(std::string_view option, std::string_view what, const std::string& name) {
  Error error = os_error(fmt::format("{}: cannot change to {} {}", option, what, name));
  if (error.code != std::errc::operation_not_permitted) return error;
  return Error(error.code, fmt::format("{} (only root can)", error.message()));
}

}  // namespace

Result<void> check_standard_streams() {
  for (int fd : {0, 1, 2}) {
    if (::fcntl(fd, F_GETFD) < 0) {
      return bad("stdin, stdout and stderr must be open (use /dev/null if you do not need one)");
    }
  }
  return {};
}

Result<void> silence_stderr() {
  UniqueFd null(::open("/dev/null", O_WRONLY | O_CLOEXEC));
  if (!null) return os_error("/dev/null");
  if (::dup2(null.get(), 2) < 0) return os_error("dup2");
  return {};
}

Result<StandardStreams> StandardStreams::replace() {
  StandardStreams streams;
  streams.in.reset(::fcntl(0, F_DUPFD_CLOEXEC, 3));
  streams.out.reset(::fcntl(1, F_DUPFD_CLOEXEC, 3));
  if (!streams.in || !streams.out) return os_error("dup");
  UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!null) return os_error("/dev/null");
  if (::dup2(null.get(), 0) < 0 || ::dup2(null.get(), 1) < 0) return os_error("dup2");
  return streams;
}

Result<Identity> Identity::find(const Options& options) {
  Identity identity;
  identity.user_ = options.user;
  identity.group_ = options.group;
  if (!options.user.empty()) {
    Result<uid_t> uid = find_user(options.user);
    if (!uid.ok()) return std::move(uid).error();
    identity.uid_ = uid.value();
  }
  if (!options.group.empty()) {
    Result<gid_t> gid = find_group(options.group);
    if (!gid.ok()) return std::move(gid).error();
    identity.gid_ = gid.value();
  }
  return identity;
}

Result<void> Identity::assume(Log& log) const {
  if (gid_) {
    gid_t gid = *gid_;
    if (::setgroups(1, &gid) != 0 || ::setgid(gid) != 0) return change_error("-g", "group", group_);
    log.debug("", "changed group to {}", group_);
  }
  if (uid_) {
    if (::setuid(*uid_) != 0) return change_error("-u", "user", user_);
    log.debug("", "changed user to {}", user_);
  }
  return {};
}

void stop_with_parent(pid_t parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  if (::getppid() != parent) ::kill(::getpid(), SIGTERM);
}

Result<Child> Child::fork() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return os_error("pipe");
  UniqueFd read(ends[0]);
  UniqueFd write(ends[1]);
  pid_t pid = ::fork();
  if (pid < 0) return os_error("fork");
  return Child(pid, pid == 0 ? std::move(write) : std::move(read));
}

bool Child::wait_until_ready(Log& log) {
  char byte = 0;
  ssize_t count = 0;
  do {
    count = ::read(pipe_.get(), &byte, 1);
  } while (count < 0 && errno == EINTR);
  pipe_.reset();
  if (count == 1) return true;
  int status = wait(log);
  // The program itself says why and ends with 1. A plugin may call exit().
  if (WIFEXITED(status) && WEXITSTATUS(status) != EXIT_FAILURE) {
    log.error("", "a plugin or filter ended the server, with status {}", WEXITSTATUS(status));
  }
  return false;
}

int Child::wait_for_end(Log& log) const { return shell_status(wait(log)); }

int Child::wait(Log& log) const {
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0) {
    if (errno != EINTR) return W_EXITCODE(EXIT_FAILURE, 0);
  }
  if (WIFSIGNALED(status)) log.error("", "the server was killed by signal {}", WTERMSIG(status));
  return status;
}

void Child::tell_ready() {
  // Nobody reads it when the parent has ended already.
  [[maybe_unused]] ssize_t written = ::write(pipe_.get(), "", 1);
  pipe_.reset();
}

Result<void> write_pid_file(const std::string& path) {
  UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOCTTY | O_CLOEXEC, 0644));
  if (!file) return os_error(fmt::format("-P: {}", path));
  std::string line = fmt::format("{}\n", ::getpid());
  if (::write(file.get(), line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
    return os_error(fmt::format("-P: {}", path));
  }
  return {};
}

int shell_status(int wait_status) {
  if (WIFEXITED(wait_status)) return WEXITSTATUS(wait_status);
  return 128 + WTERMSIG(wait_status);
}

}  // namespace nbdkit
