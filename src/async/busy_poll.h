// SPDX-License-Identifier: BSD-3-Clause
// BusyPoll: decides when a loop should look for events for a moment before it sleeps.
//
// To be woken costs a few microseconds, and on a virtual machine whose processor has gone idle some
// 25: more than a whole request. To look costs processor time. So a loop looks only
//   - while that finds something: after each time in vain it sleeps twice as often without looking;
//   - while another processor is there for those who are waited for: half of them may look;
//   - while nobody else wants this processor: not for a while after its thread was interrupted.
// With one processor, and with a real-time priority, nobody looks. Figures: docs/benchmarks.md.
#pragma once

#include "base/parse.h"

namespace nbdkit {

class BusyPoll {
 public:
  // The longest look. It saves most wakes; a longer one takes the processor from those who are
  // waited for when there is much to do.
  static constexpr Nanoseconds kLongest{50'000};
  // Waits between two looks when none finds anything.
  static constexpr unsigned kSkippedMax = 1023;
  // Looks between two questions whether somebody else wants the processor.
  static constexpr unsigned kLooksPerCheck = 64;
  // So many interruptions meanwhile are ordinary: whoever is waited for is now and then woken on
  // this processor. One on an idle machine, 18 beside a process that wants the processor.
  static constexpr long kInterruptionsMax = 6;
  // Waits without a look after somebody has wanted it.
  static constexpr unsigned kYieldedWaits = 4095;

  struct Machine {
    int lookers_max;          // In this process, at the same time.
    long (*interruptions)();  // Of the calling thread, while it wanted to go on.
  };
  // This one, for a thread of this process that serves.
  static Machine this_machine();

  explicit BusyPoll(Machine machine = this_machine()) : machine_(machine) {}
  BusyPoll(const BusyPoll&) = delete;
  BusyPoll& operator=(const BusyPoll&) = delete;

  // From here on: the loop's thread only.

  // Before a wait: whether to look first. Who is told so must call end().
  bool begin();
  void end(bool found);

 private:
  bool disturbed();

  const Machine machine_;
  unsigned left_to_skip_ = 0;
  unsigned skipped_ = 0;  // Waits that are let go after a look in vain.
  unsigned looks_ = 0;
  long interruptions_ = 0;
};

}  // namespace nbdkit
