// SPDX-License-Identifier: BSD-3-Clause
#include "plugin_host/inline_rule.h"

#include <algorithm>

namespace nbdkit {

void InlineRule::learn(Nanoseconds took, std::size_t bytes, Nanoseconds now) {
  double copying = kCopyNsPerByte * static_cast<double>(bytes);
  double own = std::max(0.0, static_cast<double>(took.count()) - copying);
  double mean = mean_ns_.load(std::memory_order_relaxed);
  mean += (own - mean) / kRemembered;
  mean_ns_.store(mean, std::memory_order_relaxed);
  if (took >= kLong) {
    barred_until_ns_.store((now + kBarred).count(), std::memory_order_relaxed);
    inline_.store(false, std::memory_order_relaxed);
  } else if (allows()) {
    if (mean > kWorkerAboveNs) inline_.store(false, std::memory_order_relaxed);
  } else if (mean < kInlineBelowNs) {
    bool barred = now.count() < barred_until_ns_.load(std::memory_order_relaxed);
    if (!barred) inline_.store(true, std::memory_order_relaxed);
  }
}

}  // namespace nbdkit
