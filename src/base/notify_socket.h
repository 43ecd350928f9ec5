// SPDX-License-Identifier: BSD-3-Clause
// NotifySocket: tells the service manager about this process, as sd_notify(3) describes it: one
// datagram a message, to the socket that NOTIFY_SOCKET names.
#pragma once

#include <span>
#include <string>
#include <string_view>

#include "base/parse.h"
#include "base/result.h"

namespace nbdkit {

class NotifySocket {
 public:
  // Tells nobody.
  NotifySocket() = default;
  // Takes NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID and FDSTORE out of the environment: they are
  // meant for this process and not for those that it starts. Before there are threads.
  static NotifySocket from_environment();

  // Whether anybody listens. Without, nothing is sent and all succeeds.
  explicit operator bool() const { return !address_.empty(); }
  // How often the manager wants to hear of a process that works; 0: it does not ask.
  Nanoseconds watchdog_limit() const { return watchdog_limit_; }
  // Whether the manager may keep descriptors. Managers before systemd 254 do not say, and ignore
  // those that they have no room for.
  bool may_store() const { return !address_.empty() && may_store_; }

  // What a manager that is busy has not taken within this time is lost.
  static constexpr Seconds kSendMax{5};
  static constexpr std::size_t kDescriptorsMax = 2;

  // `assignments` are lines like READY=1. `descriptors` are lent. Waits for a manager that is busy.
  Result<void> send(std::string_view assignments, std::span<const int> descriptors = {}) const;
  // Does not wait: for what is said again later.
  void mention(std::string_view assignments) const;
  // Waits until the manager has taken all that was sent before: from a process that is gone it
  // takes nothing. timed_out.
  Result<void> barrier(Milliseconds limit) const;

 private:
  Result<void> deliver(std::string_view text, std::span<const int> descriptors, int flags) const;

  std::string address_;  // a path, or '@' and an abstract name
  Nanoseconds watchdog_limit_{0};
  bool may_store_ = true;
};

}  // namespace nbdkit
