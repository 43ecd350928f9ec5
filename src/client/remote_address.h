// SPDX-License-Identifier: BSD-3-Clause
// RemoteAddress: where an NBD server can be reached.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>

#include "base/result.h"

namespace nbdkit {

inline constexpr std::string_view kDefaultPort = "10809";
inline constexpr std::uint32_t kDefaultVsockPort = 10809;

struct RemoteTcp {
  std::string host;
  std::string port{kDefaultPort};  // a number or the name of a service
};

struct RemoteUnix {
  std::string path;
};

struct RemoteVsock {
  std::uint32_t cid = 0;
  std::uint32_t port = kDefaultVsockPort;
};

// A connected socket that the process was started with. It is only lent, and good for one
// connection.
struct RemoteSocket {
  int fd = -1;
};

using RemoteAddress = std::variant<RemoteTcp, RemoteUnix, RemoteVsock, RemoteSocket>;

// Whether a connection that was lost can be made again.
inline bool can_connect_again(const RemoteAddress& address) {
  return !std::holds_alternative<RemoteSocket>(address);
}

// For messages, and for telling servers apart.
std::string to_string(const RemoteAddress& address);

// Refuses what no server can have and what programs that are given it might take for an option.
Result<void> check_address(const RemoteAddress& address);

}  // namespace nbdkit
