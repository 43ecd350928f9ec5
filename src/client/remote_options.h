// SPDX-License-Identifier: BSD-3-Clause
// RemoteOptions: which export of which server a client wants, and how patient it is.
#pragma once

#include <cstdint>

#include "base/parse.h"
#include "client/handshake.h"
#include "client/remote_address.h"

namespace nbdkit {

struct RemoteOptions {
  RemoteAddress address;
  HandshakeWishes wishes;
  // Connecting, TLS and the handshake, together.
  Nanoseconds handshake_max = Seconds(30);
  // How often the first connection is tried again, each time a second later.
  std::uint32_t retries = 0;
  // Connections at once, when the server allows it.
  std::uint32_t connections = 1;
  // How long requests wait for a lost connection to be made again; 0: it never is.
  Nanoseconds reconnect_max = Seconds(60);
  // Whether the server keeps all that it has answered when it dies, and not only what was flushed.
  bool keeps_unflushed = false;
};

}  // namespace nbdkit
