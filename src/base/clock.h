// SPDX-License-Identifier: BSD-3-Clause
// The clock that never goes back.
#pragma once

#include <time.h>

#include "base/parse.h"

namespace nbdkit {

// CLOCK_MONOTONIC.
inline Nanoseconds monotonic_now() {
  timespec now;
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return Seconds(now.tv_sec) + Nanoseconds(now.tv_nsec);
}

}  // namespace nbdkit
