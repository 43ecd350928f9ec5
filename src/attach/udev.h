// SPDX-License-Identifier: BSD-3-Clause
// Waiting for udev, which looks at every new or changed device and makes its links.
#pragma once

#include "base/parse.h"
#include "base/result.h"

namespace nbdkit {

bool udev_is_running();

// Until udev has nothing left to do. timed_out when that takes longer. Nothing where udev does not
// run. Blocks.
Result<void> settle_udev(Seconds limit);

}  // namespace nbdkit
