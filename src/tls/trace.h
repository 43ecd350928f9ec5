// SPDX-License-Identifier: BSD-3-Clause
// What GnuTLS says of its own work.
#pragma once

#include "base/log.h"

namespace nbdkit {

// As debug messages, from 1 (little) to 99. Before there is any thread; the log outlives all of
// them.
void trace_gnutls(int level, Log& log);

}  // namespace nbdkit
