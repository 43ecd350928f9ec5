// SPDX-License-Identifier: BSD-3-Clause
// ServerLock: says whether a server, or anything that it has started, still runs - also to a keeper
// that has not started it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "attach/run_folder.h"
#include "base/parse.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace nbdkit {

// A file in the run folder. A server inherits a lock (flock) of it, and so does every program that
// the server starts: it is free when the last of them has ended or closed it.
class ServerLock {
 public:
  // Without a name, as the device's number is not known yet: nothing of it is left when nobody
  // has it open any more.
  static Result<ServerLock> create(const RunFolder& folder);
  // Of a server that another keeper has started.
  static Result<void> open(const RunFolder& folder, std::uint32_t index,
                           std::optional<ServerLock>& lock);

  Result<void> name(const RunFolder& folder, std::uint32_t index);
  // For the next server. Busy while processes of the last one hold it.
  Result<UniqueFd> take() const;

  // Kills whoever holds it until it is free: nobody is left then. Ends with those that are left
  // after `limit`, or with an Error when they cannot be found. Blocks.
  Result<std::vector<pid_t>> end_holders(Milliseconds limit) const;

 private:
  explicit ServerLock(UniqueFd file) : file_(std::move(file)) {}

  std::vector<pid_t> kill_holders() const;

  UniqueFd file_;  // not locked
};

}  // namespace nbdkit
