// SPDX-License-Identifier: BSD-3-Clause
#include "client/remote_address.h"

#include <fmt/format.h>
#include <sys/un.h>

namespace nbdkit {
namespace {

constexpr std::size_t kPathMax = sizeof(sockaddr_un::sun_path) - 1;

struct Describe {
  std::string operator()(const RemoteTcp& tcp) const {
    bool is_v6 = tcp.host.find(':') != std::string::npos;
    return is_v6 ? fmt::format("[{}]:{}", tcp.host, tcp.port)
                 : fmt::format("{}:{}", tcp.host, tcp.port);
  }
  std::string operator()(const RemoteUnix& local) const { return local.path; }
  std::string operator()(const RemoteVsock& vsock) const {
    return fmt::format("vsock:{}:{}", vsock.cid, vsock.port);
  }
  std::string operator()(const RemoteSocket& socket) const {
    return fmt::format("socket-fd={}", socket.fd);
  }
};

Error refusal(std::string text) { return Error(std::errc::invalid_argument, std::move(text)); }

struct Check {
  Result<void> operator()(const RemoteTcp& tcp) const {
    if (tcp.host.empty()) return refusal("the name of the host is empty");
    if (tcp.host.front() == '-') {
      return refusal(fmt::format("'{}' is not the name of a host: it begins with '-'", tcp.host));
    }
    if (tcp.port.empty() || tcp.port.front() == '-') {
      return refusal(fmt::format("'{}' is not a port", tcp.port));
    }
    return {};
  }
  Result<void> operator()(const RemoteUnix& local) const {
    if (local.path.empty()) return refusal("the path of the socket is empty");
    if (local.path.size() > kPathMax) {
      return refusal(fmt::format("the path of the socket is longer than {} bytes", kPathMax));
    }
    return {};
  }
  Result<void> operator()(const RemoteVsock&) const { return {}; }
  Result<void> operator()(const RemoteSocket&) const { return {}; }
};

}  // namespace

std::string to_string(const RemoteAddress& address) { return std::visit(Describe{}, address); }

Result<void> check_address(const RemoteAddress& address) { return std::visit(Check{}, address); }

}  // namespace nbdkit
