// SPDX-License-Identifier: BSD-3-Clause
#include "attach/restart_policy.h"

namespace nbdkit {

std::optional<Nanoseconds> RestartPolicy::next_delay(Nanoseconds now) {
  while (!starts_.empty() && now - starts_.front() > kWindow) starts_.pop_front();
  if (starts_.size() >= kStartsMax) return {};
  Nanoseconds delay(0);
  for (std::size_t i = 0; i < starts_.size(); ++i) {
    delay = delay == Nanoseconds(0) ? Nanoseconds(kDelayMin) : 2 * delay;
  }
  starts_.push_back(now);
  return delay;
}

void RestartPolicy::has_served(Nanoseconds how_long) {
  if (how_long >= kServedMin) starts_.clear();
}

}  // namespace nbdkit
