// SPDX-License-Identifier: BSD-3-Clause
// ConnectionTurn: one connection after the other, for plugins that can serve only one at a time.
#pragma once

#include <cstdint>
#include <list>
#include <mutex>

#include "block/context.h"

namespace nbdkit {

// Shared by all loops.
class ConnectionTurn {
 public:
  ConnectionTurn() = default;
  ConnectionTurn(const ConnectionTurn&) = delete;
  ConnectionTurn& operator=(const ConnectionTurn&) = delete;

  // Waits until no other connection holds the turn; who has it may take it again. Ends with
  // operation_canceled when the connection ends first. Each success is given back once.
  Task<void> take(Context& context);
  // Any thread.
  void give_back();

 private:
  class Waiter;

  std::mutex mutex_;
  std::uint64_t holder_ = 0;  // A connection's number, while held_ is not 0.
  std::size_t held_ = 0;
  std::list<Waiter*> waiters_;
};

}  // namespace nbdkit
