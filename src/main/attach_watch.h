// SPDX-License-Identifier: BSD-3-Clause
// nbdkit-attach --watch: what devices do, again and again.
#pragma once

#include <cstdint>
#include <optional>

#include "base/parse.h"
#include "base/result.h"

namespace nbdkit {

// Of one device until that attachment has gone, or of all until a signal ends the program. On a
// terminal the lines stay where they are. not_attached when nothing is attached at the beginning.
Result<void> watch_devices(std::optional<std::uint32_t> index, Milliseconds interval);

}  // namespace nbdkit
