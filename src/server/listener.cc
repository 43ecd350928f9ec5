// SPDX-License-Identifier: BSD-3-Clause
#include "server/listener.h"

#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/un.h>

// Needs sys/socket.h before it.
#include <linux/vm_sockets.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include "async/stream.h"

namespace nbdkit {
namespace {

Result<UniqueFd> make_socket(int family) {
  // Non-blocking: a client may leave between epoll's word and accept().
  UniqueFd fd(::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return os_error("socket");
  return fd;
}

struct FreeAddresses {
  void operator()(addrinfo* list) const { ::freeaddrinfo(list); }
};
using Addresses = std::unique_ptr<addrinfo, FreeAddresses>;

std::string host_text(const TcpAddress& address) {
  return address.host.empty() ? "every address" : fmt::format("'{}'", address.host);
}

Result<Addresses> resolve(const TcpAddress& address) {
  addrinfo hints{};
  hints.ai_flags = AI_PASSIVE;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_family = address.family == TcpAddress::Family::ipv4   ? AF_INET
                    : address.family == TcpAddress::Family::ipv6 ? AF_INET6
                                                                 : AF_UNSPEC;
  addrinfo* list = nullptr;
  int error = ::getaddrinfo(address.host.empty() ? nullptr : address.host.c_str(),
                            address.port.c_str(), &hints, &list);
  if (error != 0) {
    return Error(
        std::errc::invalid_argument,
        fmt::format(
            "cannot listen on port '{}' of {}: {}", address.port, host_text(address),
            error == EAI_SYSTEM ? os_error("getaddrinfo").message() : ::gai_strerror(error)));
  }
  return Addresses(list);
}

void set_port(sockaddr_storage& address, std::uint16_t port) {
  if (address.ss_family == AF_INET) {
    reinterpret_cast<sockaddr_in&>(address).sin_port = htons(port);
  } else if (address.ss_family == AF_INET6) {
    reinterpret_cast<sockaddr_in6&>(address).sin6_port = htons(port);
  }
}

std::uint16_t get_port(int fd) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0) return 0;
  if (address.ss_family == AF_INET) return ntohs(reinterpret_cast<sockaddr_in&>(address).sin_port);
  return ntohs(reinterpret_cast<sockaddr_in6&>(address).sin6_port);
}

// `port` is used when it is not 0: what the kernel chose for the first address, when it chooses.
Result<UniqueFd> listen_at(const addrinfo& where, std::uint16_t port) {
  Result<UniqueFd> fd = make_socket(where.ai_family);
  if (!fd.ok()) return fd;
  int one = 1;
  ::setsockopt(fd.value().get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  // IPv4 has a socket of its own.
  if (where.ai_family == AF_INET6) {
    ::setsockopt(fd.value().get(), IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
  }
  sockaddr_storage address{};
  std::memcpy(&address, where.ai_addr, std::min<std::size_t>(where.ai_addrlen, sizeof address));
  if (port != 0) set_port(address, port);
  if (::bind(fd.value().get(), reinterpret_cast<sockaddr*>(&address), where.ai_addrlen) != 0) {
    return os_error("bind");
  }
  if (::listen(fd.value().get(), SOMAXCONN) != 0) return os_error("listen");
  return fd;
}

std::string_view advice(std::errc code) {
  if (code == std::errc::address_in_use) {
    return " (another server has it; choose another port with -p)";
  }
  if (code == std::errc::permission_denied) return " (ports below 1024 are root's)";
  if (code == std::errc::address_not_available) return " (it is no address of this machine)";
  return "";
}

// Of the connection that was to be accepted, not of the listening socket (accept(2), "Error
// handling").
bool is_about_connection(int error) {
  switch (error) {
    case EINTR:
    case ECONNABORTED:
    case EPERM:
    case EPROTO:
    case ENOPROTOOPT:
    case ENETDOWN:
    case EHOSTDOWN:
    case ENONET:
    case EHOSTUNREACH:
    case EOPNOTSUPP:
    case ENETUNREACH:
    case ETIMEDOUT:
      return true;
    default:
      return false;
  }
}

}  // namespace

Result<UniqueFd> listen_unix(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return Error(std::errc::filename_too_long, fmt::format("{}: a socket's path has 1 to {} bytes",
                                                           path, sizeof address.sun_path - 1));
  }
  path.copy(address.sun_path, path.size());
  Result<UniqueFd> fd = make_socket(AF_UNIX);
  if (!fd.ok()) return fd;
  if (::bind(fd.value().get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    Error error = os_error(path);
    if (error.code != std::errc::address_in_use) return error;
    return Error(error.code, fmt::format("{} (remove the file if no server uses it any more)",
                                         error.message()));
  }
  if (::listen(fd.value().get(), SOMAXCONN) != 0) return os_error(path);
  return fd;
}

Result<TcpSockets> listen_tcp(const TcpAddress& address, Log& log) {
  Result<Addresses> addresses = resolve(address);
  if (!addresses.ok()) return std::move(addresses).error();
  TcpSockets result;
  std::string why;
  std::errc code{};
  for (const addrinfo* one = addresses.value().get(); one != nullptr; one = one->ai_next) {
    Result<UniqueFd> fd = listen_at(*one, result.port);
    if (fd.ok()) {
      result.port = get_port(fd.value().get());
      result.sockets.push_back(std::move(fd).value());
      continue;
    }
    why = fd.error().message();
    code = fd.error().code;
    if (code != std::errc::address_in_use && code != std::errc::address_family_not_supported) {
      result.sockets.clear();
      break;
    }
    log.debug("", "listening on port {}: {} (ignored)", address.port, why);
  }
  if (!result.sockets.empty()) return result;
  return Error(code, fmt::format("cannot listen on port {} of {}: {}{}", address.port,
                                 host_text(address), why, advice(code)));
}

Result<VsockSocket> listen_vsock(std::uint32_t port) {
  Result<UniqueFd> fd = make_socket(AF_VSOCK);
  if (!fd.ok()) {
    return Error(fd.error().code,
                 fmt::format("--vsock: {} (this kernel has no vsock)", fd.error().message()));
  }
  sockaddr_vm address{};
  address.svm_family = AF_VSOCK;
  address.svm_cid = VMADDR_CID_ANY;
  // Here "any port" is not 0, which is a port.
  address.svm_port = port == 0 ? VMADDR_PORT_ANY : port;
  int socket = fd.value().get();
  socklen_t length = sizeof address;
  if (::bind(socket, reinterpret_cast<sockaddr*>(&address), length) != 0 ||
      ::listen(socket, SOMAXCONN) != 0 ||
      ::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
    return os_error(fmt::format("--vsock: port {}", port));
  }
  return VsockSocket{std::move(fd).value(), address.svm_port};
}

Listener::Listener(Loop& loop, Log& log, UniqueFd socket, Accepted accepted, bool keepalive)
    : loop_(loop),
      log_(log),
      socket_(std::move(socket)),
      accepted_(std::move(accepted)),
      keepalive_(keepalive) {
  socklen_t length = sizeof family_;
  ::getsockopt(socket_.get(), SOL_SOCKET, SO_DOMAIN, &family_, &length);
}

Listener::~Listener() { stop(); }

Result<void> Listener::start() {
  NBDKIT_TRY(loop_.watch(socket_.get(), EPOLLIN, *this));
  watching_ = true;
  return {};
}

void Listener::stop() {
  if (armed()) loop_.timers().disarm(*this);
  if (std::exchange(watching_, false)) loop_.unwatch(socket_.get(), *this);
  socket_.reset();
}

void Listener::ready(std::uint32_t) noexcept {
  for (int i = 0; i < kAcceptsMax && watching_; ++i) {
    if (!accept_one()) return;
  }
}

bool Listener::accept_one() {
  UniqueFd connection(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
  if (!connection) {
    if (errno == EAGAIN || errno == EWOULDBLOCK) return false;
    if (is_about_connection(errno)) return true;
    pause(errno);
    return false;
  }
  log_.debug("", "accepted connection");
  tune(connection.get());
  accepted_(std::move(connection));
  return true;
}

// The kernel says again and again that somebody is waiting, so without a pause this would be a
// busy loop until a descriptor is free.
void Listener::pause(int error) {
  if (loop_.now() >= quiet_until_) {
    std::string_view advice = error == EMFILE ? "; the limit is that of 'ulimit -n'" : "";
    log_.error("", "cannot accept a connection: {} (trying again{})",
               Error(static_cast<std::errc>(error), {}).message(), advice);
    quiet_until_ = loop_.now() + kComplaintInterval;
  }
  loop_.change_watch(socket_.get(), 0, *this);
  loop_.timers().arm(*this, loop_.now() + kPause);
}

void Listener::expired() noexcept { loop_.change_watch(socket_.get(), EPOLLIN, *this); }

void Listener::tune(int connection) const {
  if (family_ == AF_INET || family_ == AF_INET6) {
    int one = 1;
    ::setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (keepalive_) ::setsockopt(connection, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    return;
  }
  enlarge_send_buffer(connection);
}

}  // namespace nbdkit
