// SPDX-License-Identifier: BSD-3-Clause
// nbdkit-attach --detach: by the device's keeper, or without one.
#pragma once

#include <cstdint>

#include "attach/options.h"
#include "base/result.h"

namespace nbdkit {

// Blocks until the device is free. Errors: timed_out when it is detached but somebody holds it.
Result<void> detach_by_command(std::uint32_t index, DetachOptions options);

}  // namespace nbdkit
