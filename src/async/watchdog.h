// SPDX-License-Identifier: BSD-3-Clause
// Watchdog: lets the service manager know that a loop turns, twice as often as it asks for.
#pragma once

#include "async/loop.h"
#include "async/timers.h"
#include "base/notify_socket.h"

namespace nbdkit {

// One loop's; its thread only.
class Watchdog final : private Timer {
 public:
  // What is passed outlives this.
  Watchdog(Loop& loop, const NotifySocket& manager) : loop_(loop), manager_(manager) {}

  void start() {
    if (manager_ && manager_.watchdog_limit() > Nanoseconds(0)) expired();
  }

 private:
  void expired() noexcept override {
    manager_.mention("WATCHDOG=1");
    loop_.timers().arm(*this, loop_.now() + manager_.watchdog_limit() / 2);
  }

  Loop& loop_;
  const NotifySocket& manager_;
};

}  // namespace nbdkit
