// SPDX-License-Identifier: BSD-3-Clause
#include "main/nbdkit_sockets.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "block/params.h"
#include "handoff/handoff_door.h"
#include "main/nbdkit_interfaces.h"
#include "main/nbdkit_socket_label.h"
#include "server/listener.h"

namespace nbdkit {
namespace {

constexpr const char* kDefaultPort = "10809";

TcpAddress::Family tcp_family(Options::Family family) {
  switch (family) {
    case Options::Family::ipv4:
      return TcpAddress::Family::ipv4;
    case Options::Family::ipv6:
      return TcpAddress::Family::ipv6;
    case Options::Family::any:
      break;
  }
  return TcpAddress::Family::any;
}

Result<void> open_private(const Identity& identity, Sockets& sockets) {
  Result<PrivateFolder> folder = PrivateFolder::make();
  if (!folder.ok()) return std::move(folder).error();
  sockets.folder = std::move(folder).value();
  sockets.address.unix_path = sockets.folder.socket_path();
  Result<UniqueFd> fd = listen_unix(sockets.address.unix_path);
  if (!fd.ok()) return std::move(fd).error();
  sockets.listening.push_back(std::move(fd).value());
  return sockets.folder.give_to(identity);
}

// Clients are told of the first one.
Result<void> open_unix(const Options& options, const Identity& identity, Log& log,
                       Sockets& sockets) {
  for (const std::string& path : options.unix_paths) {
    Result<UniqueFd> fd = listen_unix(path);
    if (!fd.ok()) return std::move(fd).error();
    sockets.listening.push_back(std::move(fd).value());
    log.debug("", "bound to unix socket {}", path);
  }
  if (options.unix_paths.empty() || options.private_unix)
    NBDKIT_TRY(open_private(identity, sockets));
  if (options.unix_paths.empty()) {
    log.debug("", "bound to unix socket {}", sockets.address.unix_path);
  } else {
    sockets.address.unix_path = options.unix_paths.front();
  }
  return {};
}

Result<void> open_vsock(const Options& options, Sockets& sockets) {
  // check_port() has seen that it is one.
  const std::string port = options.port.value_or(kDefaultPort);
  Result<VsockSocket> vsock =
      listen_vsock(static_cast<std::uint32_t>(parse_unsigned(port, UINT32_MAX).value()));
  if (!vsock.ok()) return std::move(vsock).error();
  sockets.listening.push_back(std::move(vsock.value().socket));
  sockets.address.vsock = true;
  sockets.address.port = vsock.value().port;
  return {};
}

// How a client on this machine reaches one of the sockets. "localhost" is usually 127.0.0.1 alone.
std::string uri_host(const std::vector<UniqueFd>& sockets) {
  std::string host;
  for (const UniqueFd& socket : sockets) {
    sockaddr_storage address{};
    socklen_t length = sizeof address;
    ::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &length);
    char text[INET6_ADDRSTRLEN] = "";
    if (address.ss_family == AF_INET) {
      const in_addr& ip = reinterpret_cast<sockaddr_in&>(address).sin_addr;
      bool local = ip.s_addr == htonl(INADDR_ANY) || ip.s_addr == htonl(INADDR_LOOPBACK);
      if (local) return "localhost";
      ::inet_ntop(AF_INET, &ip, text, sizeof text);
      if (host.empty()) host = text;
    } else {
      const in6_addr& ip = reinterpret_cast<sockaddr_in6&>(address).sin6_addr;
      ::inet_ntop(AF_INET6, IN6_IS_ADDR_UNSPECIFIED(&ip) ? &in6addr_loopback : &ip, text,
                  sizeof text);
      if (host.empty()) host = fmt::format("[{}]", text);
    }
  }
  return host;
}

Result<void> open_tcp(const Options& options, Log& log, Sockets& sockets) {
  TcpAddress address;
  address.port = options.port.value_or(kDefaultPort);
  address.family = tcp_family(options.family);
  std::vector<std::string> hosts;
  for (const std::string& name : options.ip_addresses) {
    Result<std::vector<std::string>> addresses = addresses_of(name, options.family);
    if (!addresses.ok()) return std::move(addresses).error();
    hosts.insert(hosts.end(), addresses.value().begin(), addresses.value().end());
  }
  if (hosts.empty()) hosts.emplace_back();
  for (const std::string& host : hosts) {
    address.host = host;
    Result<TcpSockets> tcp = listen_tcp(address, log);
    if (!tcp.ok()) return std::move(tcp).error();
    for (UniqueFd& fd : tcp.value().sockets) sockets.listening.push_back(std::move(fd));
    sockets.address.port = tcp.value().port;
    // All have one port, also when the kernel has chosen it.
    address.port = fmt::format("{}", tcp.value().port);
  }
  sockets.address.host = uri_host(sockets.listening);
  return {};
}

}  // namespace

Result<PrivateFolder> PrivateFolder::make() {
  std::string path = "/tmp/nbdkitXXXXXX";
  if (::mkdtemp(path.data()) == nullptr) return os_error(path);
  return PrivateFolder(std::move(path));
}

Result<void> PrivateFolder::give_to(const Identity& identity) const {
  if (!identity.changes()) return {};
  for (const std::string& one : {path_, socket_path()}) {
    if (::lchown(one.c_str(), identity.uid(), identity.gid()) != 0) return os_error(one);
  }
  return {};
}

void PrivateFolder::remove() {
  if (path_.empty()) return;
  ::unlink(socket_path().c_str());
  ::rmdir(path_.c_str());
  path_.clear();
}

Result<Sockets> open_sockets(const Options& options, const Identity& identity, Log& log) {
  Sockets sockets;
  sockets.address.export_name = options.export_name;
  sockets.address.tls = options.handshake.tls != nullptr;
  sockets.address.tls_required = options.tls.required();
  sockets.address.tls_certificates = options.tls.certificates;
  sockets.address.tls_psk_file = options.tls.psk_file;
  const bool tcp_asked = options.port.has_value() || !options.ip_addresses.empty();
  if (options.single) return sockets;
  Result<SocketLabel> label = SocketLabel::set(options.selinux_label);
  if (!label.ok()) return std::move(label).error();
  if (!options.handoff.path.empty()) {
    Result<UniqueFd> control = listen_handoff(options.handoff.path, options.handoff.mode);
    if (!control.ok()) return std::move(control).error();
    sockets.handoff = std::move(control).value();
    log.debug("", "control sockets may connect to {}", options.handoff.path);
  }
  if (options.vsock) {
    NBDKIT_TRY(open_vsock(options, sockets));
  } else if (options.listens_on_unix() || (options.run && !tcp_asked)) {
    NBDKIT_TRY(open_unix(options, identity, log, sockets));
  } else if (tcp_asked || (!options.handoff.any() && !options.activated)) {
    NBDKIT_TRY(open_tcp(options, log, sockets));
  } else {
    return sockets;
  }
  if (sockets.address.unix_path.empty()) {
    log.debug("", "listening on port {} ({} sockets)", sockets.address.port,
              sockets.listening.size());
  }
  return sockets;
}

}  // namespace nbdkit
