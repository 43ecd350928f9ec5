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

bool is_connected(int fd) {
  sockaddr_storage peer;
  socklen_t length = sizeof peer;
  return ::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &length) == 0;
}

}  // namespace

Result<SocketKind> socket_kind(int fd) {
  int type, family, listening;
  if (!option(fd, SO_TYPE, type)) {
    std::string what = errno == ENOTSOCK ? "not a socket" : "not an open socket";
    return Error(std::errc::not_a_socket, what);
  }
  if (!option(fd, SO_DOMAIN, family) || !option(fd, SO_ACCEPTCONN, listening)) {
    return Error(std::errc::not_a_socket, "no usable socket");
  }
  SocketKind kind;
  kind.type = type;
  kind.family = family;
  kind.state = listening != 0     ? SocketKind::State::listening
               : is_connected(fd) ? SocketKind::State::connected
                                  : SocketKind::State::unconnected;
  return kind;
}

std::string describe(const SocketKind& kind) {
  std::string_view family = family_name(kind.family);
  if (kind.type != SOCK_STREAM)
    return fmt::format("a {} socket ({})", type_name(kind.type), family);
  if (family == "foreign") return fmt::format("a stream socket of address family {}", kind.family);
  std::string_view state = kind.state == SocketKind::State::listening   ? "a listening"
                           : kind.state == SocketKind::State::connected ? "a connected"
                                                                        : "an unconnected";
  return fmt::format("{} socket ({})", state, family);
}

Result<void> check_stream_socket(int fd) {
  Result<SocketKind> asked = socket_kind(fd);
  if (!asked.ok()) return refused(asked.error().message());
  const SocketKind& kind = asked.value();
  bool fits = kind.type == SOCK_STREAM && family_name(kind.family) != "foreign" &&
              kind.state == SocketKind::State::connected;
  if (!fits) return refused(describe(kind));
  pollfd state{fd, 0, 0};
  if (::poll(&state, 1, 0) > 0 && (state.revents & (POLLHUP | POLLERR)) != 0) {
    return refused(fmt::format("a socket ({}) whose other end is gone", family_name(kind.family)));
  }
  return {};
}

bool crosses_a_network(int socket) {
  int family = AF_UNSPEC;
  socklen_t length = sizeof family;
  return ::getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &family, &length) != 0 || family != AF_UNIX;
}

}  // namespace nbdkit
