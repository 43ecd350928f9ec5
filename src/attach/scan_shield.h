// SPDX-License-Identifier: BSD-3-Clause
// ScanShield: answers the kernel in the place of the server, as if the device were empty, while the
// kernel looks for partitions and udev for file systems.
#pragma once

#include <memory>
#include <vector>

#include "async/gate.h"
#include "async/loop.h"

namespace nbdkit {

// One loop's; its thread only.
class ScanShield {
 public:
  explicit ScanShield(Loop& loop);
  ScanShield(const ScanShield&) = delete;
  ScanShield& operator=(const ScanShield&) = delete;
  ~ScanShield();

  // Answers what comes on the server's end of a connection in transmission: reads get zeroes, all
  // else an error. `socket` is lent until end() has ended, or the end of this. It has no state of
  // its own changed: it blocks or does not, as before.
  Result<void> answer(int socket);

  // Nothing is read any more, and all that has been read is answered: another may serve the
  // sockets. operation_canceled when the gate closes.
  Task<void> end(Gate& gate);

 private:
  class Connection;

  Loop& loop_;
  std::vector<std::unique_ptr<Connection>> connections_;
};

}  // namespace nbdkit
