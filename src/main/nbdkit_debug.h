// SPDX-License-Identifier: BSD-3-Clause
// -D nbdkit.FLAG=N: what the server's own debug messages (-v) are about.
#pragma once

#include "base/log.h"
#include "main/nbdkit_options.h"

namespace nbdkit {

// Before there is any thread; the log outlives all of them.
void choose_debug_messages(const Options& options, Log& log);

// With -D nbdkit.environ=1. Secrets are masked.
void tell_environment(const Options& options, Log& log);

}  // namespace nbdkit
