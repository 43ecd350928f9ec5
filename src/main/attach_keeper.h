// SPDX-License-Identifier: BSD-3-Clause
// The keeper of an attached device, for commands that only it can carry out.
#pragma once

#include <cstdint>
#include <optional>

#include "attach/control_client.h"
#include "attach/run_folder.h"
#include "base/result.h"

namespace nbdkit {

// The folder of keepers, for a command about a device to which something is attached and that this
// process may change. Errors say which device it is.
Result<RunFolder> open_folder_of(std::uint32_t index);

// Nothing when the device has no keeper; timed_out when that does not answer.
Result<std::optional<ControlClient>> find_keeper(const RunFolder& folder, std::uint32_t index);

// Both, for what only a keeper can do: the Error says what to do when there is none.
Result<ControlClient> connect_keeper(std::uint32_t index);

}  // namespace nbdkit
