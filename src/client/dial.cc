// SPDX-License-Identifier: BSD-3-Clause
#include "client/dial.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/vm_sockets.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "async/readiness.h"
#include "async/stream.h"

namespace nbdkit {
namespace {

// A peer whose machine is gone is noticed after kKeepIdleSeconds + kKeepProbes * kKeepStepSeconds,
// and one that does not acknowledge what it is sent after kUserTimeoutMs.
constexpr int kKeepIdleSeconds = 10;
constexpr int kKeepStepSeconds = 5;
constexpr int kKeepProbes = 4;
constexpr unsigned kUserTimeoutMs = 30'000;
constexpr Milliseconds kQueueFullDelay{10};

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;
};

template <typename Sockaddr>
SocketAddress socket_address(const Sockaddr& from) {
  SocketAddress address;
  std::memcpy(&address.storage, &from, sizeof from);
  address.length = sizeof from;
  return address;
}

Result<std::vector<SocketAddress>> resolve(const RemoteTcp& tcp) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* list = nullptr;
  int error = ::getaddrinfo(tcp.host.c_str(), tcp.port.c_str(), &hints, &list);
  if (error != 0) {
    return Error(std::errc::host_unreachable, fmt::format("{}", ::gai_strerror(error)));
  }
  std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(list, &::freeaddrinfo);
  std::vector<SocketAddress> addresses;
  for (const addrinfo* one = list; one != nullptr; one = one->ai_next) {
    SocketAddress& address = addresses.emplace_back();
    std::memcpy(&address.storage, one->ai_addr, one->ai_addrlen);
    address.length = one->ai_addrlen;
  }
  return addresses;
}

SocketAddress to_socket_address(const RemoteUnix& local) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, local.path.data(),
              std::min(local.path.size(), sizeof address.sun_path - 1));
  return socket_address(address);
}

SocketAddress to_socket_address(const RemoteVsock& vsock) {
  sockaddr_vm address{};
  address.svm_family = AF_VSOCK;
  address.svm_cid = vsock.cid;
  address.svm_port = vsock.port;
  return socket_address(address);
}

template <typename T>
void set_option(int socket, int level, int name, T value) {
  ::setsockopt(socket, level, name, &value, sizeof value);  // Each is an improvement, no more.
}

void set_options(int socket, int family) {
  if (family == AF_UNIX) enlarge_send_buffer(socket);
  if (family != AF_INET && family != AF_INET6) return;
  set_option(socket, IPPROTO_TCP, TCP_NODELAY, 1);
  set_option(socket, SOL_SOCKET, SO_KEEPALIVE, 1);
  set_option(socket, IPPROTO_TCP, TCP_KEEPIDLE, kKeepIdleSeconds);
  set_option(socket, IPPROTO_TCP, TCP_KEEPINTVL, kKeepStepSeconds);
  set_option(socket, IPPROTO_TCP, TCP_KEEPCNT, kKeepProbes);
  set_option(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, kUserTimeoutMs);
}

int start_connecting(int socket, const SocketAddress& address) {
  const auto* to = reinterpret_cast<const sockaddr*>(&address.storage);
  return ::connect(socket, to, address.length) == 0 ? 0 : errno;
}

Task<UniqueFd> dial_one(Loop& loop, Gate& gate, const SocketAddress& address) {
  const int family = address.storage.ss_family;
  UniqueFd socket(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) co_await fail(os_error("socket"));
  set_options(socket.get(), family);
  int error = start_connecting(socket.get(), address);
  while (error == EAGAIN) {  // The queue of a Unix socket's listener is full.
    co_await loop.sleep(kQueueFullDelay, gate);
    error = start_connecting(socket.get(), address);
  }
  if (error == EINPROGRESS) {
    co_await wait_ready(loop, gate, socket.get(), EPOLLOUT);
    socklen_t length = sizeof error;
    if (::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &error, &length) < 0) error = errno;
  }
  if (error != 0) co_await fail(os_error("connect", error));
  co_return std::move(socket);
}

Task<UniqueFd> dial_tcp(Loop& loop, Gate& gate, const RemoteTcp& tcp) {
  std::vector<SocketAddress> addresses = co_await loop.blocking([&tcp] { return resolve(tcp); });
  Error last(std::errc::host_unreachable, "the name has no address");
  for (const SocketAddress& address : addresses) {
    Result<UniqueFd> socket = co_await dial_one(loop, gate, address).as_result();
    if (socket.ok()) co_return std::move(socket).value();
    last = std::move(socket).error();
    if (last.code == std::errc::operation_canceled) break;
  }
  co_await fail(std::move(last));
  co_return UniqueFd();
}

template <typename SockAddress>
Task<UniqueFd> dial_as(Loop& loop, Gate& gate, const SockAddress& where) {
  SocketAddress address = to_socket_address(where);
  UniqueFd socket = co_await dial_one(loop, gate, address);
  co_return std::move(socket);
}

}  // namespace

Task<UniqueFd> dial(Loop& loop, Gate& gate, const RemoteAddress& address) {
  if (const auto* tcp = std::get_if<RemoteTcp>(&address)) return dial_tcp(loop, gate, *tcp);
  if (const auto* vsock = std::get_if<RemoteVsock>(&address)) return dial_as(loop, gate, *vsock);
  if (const auto* local = std::get_if<RemoteUnix>(&address)) return dial_as(loop, gate, *local);
  int copy = ::fcntl(std::get<RemoteSocket>(address).fd, F_DUPFD_CLOEXEC, 3);
  if (copy < 0) return Result<UniqueFd>(os_error(to_string(address)));
  return Result<UniqueFd>(UniqueFd(copy));
}

}  // namespace nbdkit
