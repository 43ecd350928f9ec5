// SPDX-License-Identifier: BSD-3-Clause
// nbdkit-attach --diagnose: everything about a device in one file.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace nbdkit {

// To a new file that only we can read; to stdout when `file` is empty.
Result<void> diagnose_by_command(std::uint32_t index, const std::string& file);

}  // namespace nbdkit
