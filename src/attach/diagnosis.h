// SPDX-License-Identifier: BSD-3-Clause
// Diagnosis: all that is known about one device, as a text to go with a report of a problem.
#pragma once

#include <cstdint>
#include <string>

#include "attach/run_folder.h"

namespace nbdkit {

// Of any device, whether something is attached or not. Each part that cannot be had, or does not
// come within seconds, says so in its place; secrets are masked (secrets.h). The device is not
// opened. Only for a process with one thread.
std::string diagnose(std::uint32_t index,
                     const std::string& run_folder = std::string(RunFolder::kPath));

}  // namespace nbdkit
