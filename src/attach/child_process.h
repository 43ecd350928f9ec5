// SPDX-License-Identifier: BSD-3-Clause
// ChildProcess: a program started with exactly the descriptors that it is meant to have.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "attach/surroundings.h"
#include "base/parse.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace nbdkit {

struct ProcessRequest {
  struct Descriptor {
    int from;  // ours, lent
    int to;    // the program's
  };

  std::string program;                    // a path; PATH is not searched
  int pinned = -1;                        // lent: run this file, whatever `program` names
  std::vector<std::string> arguments;     // with argv[0]
  std::vector<Descriptor> descriptors{};  // 0, 1 and 2 are /dev/null unless named; no others
  std::string folder{};                   // to be started in; empty: ours
  std::optional<unsigned> file_mask{};    // absent: ours
  // NAME=value; null: ours. Lent.
  const std::vector<std::string>* environment = nullptr;
  bool no_new_privileges = false;
  const Surroundings* surroundings = nullptr;  // null: ours. Lent.
};

// In a session of its own, so that a terminal's ^C does not reach it; default signal handling.
// Moves only. Must not run any more when it is destroyed, or it is killed (and reaped by whoever
// adopts it).
class ChildProcess {
 public:
  // Ends when the program runs: that it cannot be started is an Error here. May be called when
  // there are threads.
  static Result<ChildProcess> start(const ProcessRequest& request);

  // One that another process has started, and that ours may outlive: how it ends is never known.
  static ChildProcess adopt(pid_t pid, UniqueFd pidfd);

  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&& other) noexcept;
  ~ChildProcess();

  static constexpr int kUnknownEnd = -1;

  pid_t pid() const { return pid_; }
  int fd() const { return pidfd_.get(); }  // readable when it has ended

  void signal(int number) const;

  // Nothing is done to it any more.
  void let_go() { pid_ = -1; }

  // How it ended (as waitpid() says it; kUnknownEnd of an adopted one), or nothing while it runs.
  std::optional<int> ended();
  // The same; waits up to `limit`. Blocks.
  std::optional<int> wait(Milliseconds limit);

 private:
  ChildProcess(pid_t pid, UniqueFd pidfd, bool ours)
      : pid_(pid), pidfd_(std::move(pidfd)), ours_(ours) {}
  void abandon();

  pid_t pid_ = -1;
  UniqueFd pidfd_;
  bool ours_ = true;
  std::optional<int> status_;
};

// "has ended", "exited with status 1", "was killed by signal 9 (Killed)"
std::string describe_exit(int wait_status);

}  // namespace nbdkit
