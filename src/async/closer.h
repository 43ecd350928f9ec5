// SPDX-License-Identifier: BSD-3-Clause
// Closer: closes descriptors that came from others; those whose closing may block on a thread that
// nobody waits for.
#pragma once

#include <memory>

#include "base/unique_fd.h"

namespace nbdkit {

// The last close of a descriptor may block for as long as its giver likes: of a file on somebody's
// file system, or of a TCP socket with SO_LINGER. One thread for all of them: whoever gives many
// that block makes descriptors scarce, but takes no worker from those who have data to be served.
class Closer {
 public:
  Closer();
  Closer(const Closer&) = delete;
  Closer& operator=(const Closer&) = delete;
  ~Closer();  // What is still to be closed, is, unless the process ends first.

  // Any thread. Nothing happens when `fd` is none. Sockets that do not linger are closed at once.
  void close(UniqueFd fd);

 private:
  struct Queue;

  static void work(std::shared_ptr<Queue> queue);

  std::shared_ptr<Queue> queue_;  // the thread may outlive this
};

}  // namespace nbdkit
