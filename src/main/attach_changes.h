// SPDX-License-Identifier: BSD-3-Clause
// nbdkit-attach --upgrade and --resize: by the device's keeper.
#pragma once

#include <cstdint>

#include "attach/options.h"
#include "base/result.h"

namespace nbdkit {

// Blocks until another server serves the device. Prints how long requests have waited.
Result<void> upgrade_by_command(std::uint32_t index, const UpgradeOptions& options);

// When the device's keeper has given its servers up: has it try again, blocks until there is one,
// and is true. False: that is not so, or there is no keeper.
Result<bool> revive_by_command(std::uint32_t index, bool force);

// Blocks until the device has the size of its export. Prints both sizes.
Result<void> resize_by_command(std::uint32_t index, bool may_shrink);

}  // namespace nbdkit
