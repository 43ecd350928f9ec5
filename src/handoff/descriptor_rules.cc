// SPDX-License-Identifier: BSD-3-Clause
#include "handoff/descriptor_rules.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <string_view>
#include <utility>

namespace nbdkit {
namespace {

std::string_view family_name(int family) {
  switch (family) {
    case AF_UNIX:
      return "Unix";
    case AF_INET:
      return "IPv4";
    case AF_INET6:
      return "IPv6";
    case AF_VSOCK:
      return "vsock";
    default:
      return "foreign";
  }
}

std::string_view type_name(int type) {
  switch (type) {
    case SOCK_STREAM:
      return "stream";
    case SOCK_DGRAM:
      return "datagram";
    case SOCK_SEQPACKET:
      return "seqpacket";
    default:
      return "raw";
  }
}

bool option(int fd, int name, int& value) {
  socklen_t length = sizeof value;
  return ::getsockopt(fd, SOL_SOCKET, name, &value, &length) == 0;
}

Error refused(std::string_view what) {
  return Error(std::errc::invalid_argument,
               fmt::format("the descriptor is {}; a connected stream socket is needed", what));
}

}  // namespace

Result<void> check_stream_socket(int fd) {
  int type, family, listening;
  if (!option(fd, SO_TYPE, type)) {
    return refused(errno == ENOTSOCK ? "not a socket" : "not an open socket");
  }
  if (!option(fd, SO_DOMAIN, family) || !option(fd, SO_ACCEPTCONN, listening)) {
    return refused("no usable socket");
  }
  if (type != SOCK_STREAM) {
    return refused(fmt::format("a {} socket ({})", type_name(type), family_name(family)));
  }
  if (family != AF_UNIX && family != AF_INET && family != AF_INET6 && family != AF_VSOCK) {
    return refused(fmt::format("a stream socket of address family {}", family));
  }
  if (listening != 0) return refused(fmt::format("a listening socket ({})", family_name(family)));
  sockaddr_storage peer;
  socklen_t length = sizeof peer;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &length) != 0) {
    return refused(fmt::format("an unconnected socket ({})", family_name(family)));
  }
  pollfd state{fd, 0, 0};
  if (::poll(&state, 1, 0) > 0 && (state.revents & (POLLHUP | POLLERR)) != 0) {
    return refused(fmt::format("a socket ({}) whose other end is gone", family_name(family)));
  }
  return {};
}

}  // namespace nbdkit
