// SPDX-License-Identifier: BSD-3-Clause
// Orphans: what a server that has ended may have left running, and with it writes under way.
#pragma once

#include <sys/types.h>

#include <vector>

#include "base/parse.h"
#include "base/result.h"

namespace nbdkit {

// Makes this process the parent of every orphan among its descendants.
class Orphans {
 public:
  // Children that are there already, of whoever has become this program, stay untouched.
  Result<void> adopt();

  // Kills and reaps every child until there is none, descendants' descendants included; one in a
  // system call that cannot be interrupted may take its time. Ends with those that are left after
  // `limit`. Blocks. No child that matters may run, but `spared` (0: none).
  std::vector<pid_t> end(Milliseconds limit, pid_t spared) const;

 private:
  std::vector<pid_t> children(pid_t spared) const;

  std::vector<pid_t> spared_;
};

}  // namespace nbdkit
