// SPDX-License-Identifier: BSD-3-Clause
// What nbdkit does to its own process: standard streams, user and group, background, pid file.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "base/log.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "main/nbdkit_options.h"

namespace nbdkit {

// stdin, stdout and stderr must be open: a socket in their place would get what is printed.
Result<void> check_standard_streams();

// /dev/null takes the place of stderr: inetd makes it the client's socket, too.
Result<void> silence_stderr();

// The caller's stdin and stdout, close-on-exec, after /dev/null has taken their places.
struct StandardStreams {
  UniqueFd in;
  UniqueFd out;

  static Result<StandardStreams> replace();
};

// Who the program is to become: -u and -g.
class Identity {
 public:
  static Result<Identity> find(const Options& options);

  bool changes() const { return uid_.has_value() || gid_.has_value(); }
  // Whom a file has to belong to so that the program can still use it; -1 is no change.
  uid_t uid() const { return uid_.value_or(static_cast<uid_t>(-1)); }
  gid_t gid() const { return gid_.value_or(static_cast<gid_t>(-1)); }

  // Group first. With a group all supplementary ones go. No way back.
  Result<void> assume(Log& log) const;

 private:
  std::string user_;
  std::string group_;
  std::optional<uid_t> uid_;
  std::optional<gid_t> gid_;
};

// Sends SIGTERM to this process when `parent` ends, or has ended already. A change of user forgets
// it.
void stop_with_parent(pid_t parent);

// A forked child that tells when it is ready.
class Child {
 public:
  // In the child itself pid() is 0.
  static Result<Child> fork();

  pid_t pid() const { return pid_; }

  // In the parent. False when the child has ended without being ready, and somebody has said why.
  bool wait_until_ready(Log& log);
  // In the parent: waits for its end. Its exit status, 128 + n when signal n has ended it, which is
  // said: the child itself could not.
  int wait_for_end(Log& log) const;

  // In the child.
  void tell_ready();

 private:
  Child(pid_t pid, UniqueFd pipe) : pid_(pid), pipe_(std::move(pipe)) {}
  int wait(Log& log) const;  // its status as waitpid() tells it

  pid_t pid_;
  UniqueFd pipe_;
};

// The number of a process, one line, 0644.
Result<void> write_pid_file(const std::string& path);

// Exit status as a shell tells it: 128 + n for an end by signal n.
int shell_status(int wait_status);

}  // namespace nbdkit
