// SPDX-License-Identifier: BSD-3-Clause
// StopSignals: SIGINT, SIGQUIT, SIGTERM and SIGHUP as something to read from a descriptor.
#pragma once

#include "base/result.h"
#include "base/unique_fd.h"

namespace nbdkit {

// One in the process. Handlers and no blocked signals: programs that plugins start inherit a mask,
// but not a handler.
class StopSignals {
 public:
  // Installs the handlers. SIGPIPE is ignored from then on.
  static Result<StopSignals> install();

  // Becomes readable when a signal has come. Valid in forked children, which share it with their
  // parent, until they call renew().
  int fd() const { return read_.get(); }
  // The number of the next signal, kAsked, or 0 when there is none.
  int take() const;

  static constexpr int kAsked = 255;
  // What a signal does, for those who do it themselves. Any thread.
  static void ask_to_stop();

  // In a forked child: signals come to this process alone.
  Result<void> renew();

  // Leaves the terminal's signals and hang-ups to others; SIGTERM still comes.
  static void ignore_terminal();

 private:
  StopSignals() = default;

  UniqueFd read_;
  UniqueFd write_;
};

}  // namespace nbdkit
