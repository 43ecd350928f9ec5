// SPDX-License-Identifier: BSD-3-Clause
// InlineRule: whether a plugin's calls are so short that handing them to a worker costs more than
// they do.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "base/parse.h"

namespace nbdkit {

// One for each kind of call; any thread. What it is told by several at once may count as one: it
// needs a mean and no sum.
class InlineRule {
 public:
  // The mean time of a call without the copying of its data. Between the two nothing changes. They
  // are low enough that a plugin of which every thousandth call takes a millisecond stays with the
  // workers, where such a call delays nobody else.
  static constexpr double kInlineBelowNs = 500;
  static constexpr double kWorkerAboveNs = 1000;
  static constexpr double kCopyNsPerByte = 0.15;
  // A call as long as this keeps all of them with the workers for a while.
  static constexpr Nanoseconds kLong = Milliseconds(10);
  static constexpr Nanoseconds kBarred = Seconds(10);
  // How many calls the mean remembers. All count in full: a mean that forgets the rare slow call
  // soon, or cuts it off, would stop a loop again and again.
  static constexpr double kRemembered = 1024;

  bool allows() const { return inline_.load(std::memory_order_relaxed); }
  // Told of every call, wherever it was made; `now` is CLOCK_MONOTONIC after it.
  void learn(Nanoseconds took, std::size_t bytes, Nanoseconds now);

 private:
  std::atomic<double> mean_ns_{10'000};  // Begins with the workers.
  std::atomic<bool> inline_{false};
  std::atomic<std::int64_t> barred_until_ns_{0};
};

}  // namespace nbdkit
