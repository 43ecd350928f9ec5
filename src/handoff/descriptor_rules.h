// SPDX-License-Identifier: BSD-3-Clause
// Which descriptors of others are served: connected stream sockets.
#pragma once

#include <string>

#include "base/result.h"

namespace nbdkit {

struct SocketKind {
  enum class State { listening, connected, unconnected };
  int type = 0;    // SOCK_STREAM ...
  int family = 0;  // AF_UNIX ...
  State state = State::unconnected;
};

// Asks the socket only, as below. not_a_socket says what it is instead.
Result<SocketKind> socket_kind(int fd);
// "a datagram socket (Unix)", "a listening socket (IPv4)"
std::string describe(const SocketKind& kind);

// Asks the socket only (getsockopt, getpeername, poll): fstat() on a descriptor of a network or
// user-space file system may hang. The Error says what the descriptor is and what is needed.
Result<void> check_stream_socket(int fd);

// Whether others may read and change on its way what the socket carries.
bool crosses_a_network(int socket);

}  // namespace nbdkit
