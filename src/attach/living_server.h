// SPDX-License-Identifier: BSD-3-Clause
// LivingServer: a server that another keeper has started, and what it holds for the next one.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>

#include "base/json.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace nbdkit {

// A file that a server has open under a number. The server is not believed: what it has there now
// must be the very file that it was given.
struct HeldFile {
  int number = -1;
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::uint64_t owner = 0;

  // Of our descriptor `fd`, which the server has as `number`.
  static HeldFile of(int fd, int number);

  bool is_same_file(int fd) const;
};

Json to_json(const HeldFile& file);
std::optional<HeldFile> parse_held_file(const Json* json);

// The inode of a socket; 0 when there is none.
std::uint64_t socket_inode(int fd);

class LivingServer {
 public:
  // Only the process that was started at `start_time` (keeper_identity.h) of this boot, and runs.
  static std::optional<LivingServer> find(pid_t pid, std::uint64_t start_time);

  pid_t pid() const { return pid_; }
  const UniqueFd& process() const { return process_; }
  UniqueFd take_process() { return std::move(process_); }

  // Opened anew: not what a socket can be. Empty when it is not there.
  UniqueFd open(const HeldFile& file, int flags) const;
  // The same file description.
  UniqueFd take(const HeldFile& file) const;
  // Empty when it is closed; an Error when the kernel does not let us have it.
  Result<UniqueFd> take_socket(std::uint64_t inode) const;
  // The end that its stderr is read from; empty when that is no pipe.
  UniqueFd words() const;

 private:
  LivingServer(pid_t pid, UniqueFd process) : pid_(pid), process_(std::move(process)) {}

  std::string path_of(int number) const;
  UniqueFd take_number(int number) const;

  pid_t pid_;
  UniqueFd process_;  // a pidfd
};

}  // namespace nbdkit
