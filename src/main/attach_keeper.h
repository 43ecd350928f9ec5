// SPDX-License-Identifier: BSD-3-Clause
// The keeper of an attached device, for commands that only it can carry out.
#pragma once

#include <cstdint>

#include "attach/control_client.h"
#include "base/result.h"

namespace nbdkit {

// Errors say which device it is, and what to do when it has no keeper.
Result<ControlClient> connect_keeper(std::uint32_t index);

}  // namespace nbdkit
