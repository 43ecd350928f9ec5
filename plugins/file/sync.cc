// SPDX-License-Identifier: BSD-3-Clause
#include "sync.h"

namespace nbdkit {

bool Sync::lost() const {
  std::lock_guard lock(mutex_);
  return lost_;
}

bool Sync::begin_alone() {
  std::lock_guard lock(mutex_);
  if (busy_) return false;
  busy_ = true;
  return true;
}

void Sync::end_alone(bool lost) {
  std::lock_guard lock(mutex_);
  busy_ = false;
  lost_ = lost_ || lost;
  idle_.notify_all();
}

}  // namespace nbdkit
