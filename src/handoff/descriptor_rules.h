// SPDX-License-Identifier: BSD-3-Clause
// Which descriptors of others are served: connected stream sockets.
#pragma once

#include "base/result.h"

namespace nbdkit {

// Asks the socket only (getsockopt, getpeername, poll): fstat() on a descriptor of a network or
// user-space file system may hang. The Error says what the descriptor is and what is needed.
Result<void> check_stream_socket(int fd);

}  // namespace nbdkit
