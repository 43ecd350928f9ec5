// SPDX-License-Identifier: BSD-3-Clause
// What GnuTLS says of its own work.
#pragma once

namespace nbdkit {

// On stderr, from 0 (nothing) to 99. Before there is any thread.
void trace_gnutls(int level);

}  // namespace nbdkit
