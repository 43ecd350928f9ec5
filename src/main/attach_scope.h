// SPDX-License-Identifier: BSD-3-Clause
// A cgroup of its own for keeper and server, who have to outlive whatever has started them: a
// container, a pod, a job.
#pragma once

#include <string>

#include "base/result.h"

namespace nbdkit {

class OwnScope {
 public:
  // Finds out where that can be; with systemd it begins this process anew there, with the same
  // arguments, and does not return. `is_service`: a service manager waits for this process. Errors
  // begin with "--scope: ".
  static Result<OwnScope> prepare(char* const* argv, bool is_service);

  // There already, or not wanted.
  OwnScope() = default;

  // Moves this process, and with it those that it will start.
  Result<void> join();
  // Takes the cgroup away when all others have ended. This process goes to the root.
  void leave();

 private:
  explicit OwnScope(std::string root) : root_(std::move(root)) {}

  std::string root_;    // empty: nothing is to be done
  std::string folder_;  // empty: not joined
};

}  // namespace nbdkit
