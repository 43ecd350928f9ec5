// SPDX-License-Identifier: BSD-3-Clause
// nbdkit-attach --upgrade and --resize: by the device's keeper.
#pragma once

#include <cstdint>

#include "attach/options.h"
#include "base/result.h"

namespace nbdkit {

// Blocks until another server serves the device. Prints how long requests have waited.
Result<void> upgrade_by_command(std::uint32_t index, const UpgradeOptions& options);

// Blocks until the device has the size of its export. Prints both sizes.
Result<void> resize_by_command(std::uint32_t index, bool may_shrink);

}  // namespace nbdkit
