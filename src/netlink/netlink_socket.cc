// SPDX-License-Identifier: BSD-3-Clause
#include "netlink/netlink_socket.h"

#include <linux/netlink.h>
#include <netlink/errno.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <chrono>

namespace nbdkit {
namespace {

using Clock = std::chrono::steady_clock;

struct FreeSocket {
  void operator()(nl_sock* socket) const { ::nl_socket_free(socket); }
};

class KernelSocket final : public NetlinkSocket {
 public:
  Result<void> open();

  Result<void> send(std::span<const std::byte> message) override;
  Result<std::vector<std::byte>> receive(Nanoseconds timeout) override;
  Result<void> join(std::uint32_t multicast_group) override;
  int fd() const override { return ::nl_socket_get_fd(socket_.get()); }

 private:
  Result<std::vector<std::byte>> receive_now();

  std::unique_ptr<nl_sock, FreeSocket> socket_;
};

Result<void> KernelSocket::open() {
  socket_.reset(::nl_socket_alloc());
  if (!socket_) return std::errc::not_enough_memory;
  errno = 0;
  if (::nl_connect(socket_.get(), NETLINK_GENERIC) < 0) return os_error("generic netlink");
  // Both only make errors clearer, and old kernels have neither.
  int on = 1;
  ::setsockopt(fd(), SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof on);
  ::setsockopt(fd(), SOL_NETLINK, NETLINK_CAP_ACK, &on, sizeof on);
  return {};
}

Result<void> KernelSocket::send(std::span<const std::byte> message) {
  sockaddr_nl kernel{};
  kernel.nl_family = AF_NETLINK;
  ssize_t sent;
  do {
    sent = ::sendto(fd(), message.data(), message.size(), MSG_NOSIGNAL,
                    reinterpret_cast<const sockaddr*>(&kernel), sizeof kernel);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0) return os_error("generic netlink: send");
  return {};
}

Result<std::vector<std::byte>> KernelSocket::receive_now() {
  std::vector<std::byte> bytes(kDatagramMax);
  for (;;) {
    sockaddr_nl sender{};
    iovec part{bytes.data(), bytes.size()};
    msghdr header{};
    header.msg_name = &sender;
    header.msg_namelen = sizeof sender;
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    ssize_t got = ::recvmsg(fd(), &header, MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return os_error("generic netlink: receive");
    // Any process may send to our port; only the kernel's word counts.
    if (header.msg_namelen != sizeof sender || sender.nl_pid != 0) continue;
    if ((header.msg_flags & MSG_TRUNC) != 0) return std::errc::message_size;
    bytes.resize(static_cast<std::size_t>(got));
    return bytes;
  }
}

Result<std::vector<std::byte>> KernelSocket::receive(Nanoseconds timeout) {
  const auto until = Clock::now() + timeout;
  for (;;) {
    auto result = receive_now();
    if (result.ok() || (result.error().code != std::errc::resource_unavailable_try_again &&
                        result.error().code != std::errc::operation_would_block)) {
      return result;
    }
    auto left = std::chrono::ceil<Milliseconds>(until - Clock::now());
    if (left <= Milliseconds(0)) return std::errc::timed_out;
    pollfd readable{fd(), POLLIN, 0};
    constexpr Milliseconds kHour{3'600'000};
    ::poll(&readable, 1, static_cast<int>(std::min(left, kHour).count()));
  }
}

Result<void> KernelSocket::join(std::uint32_t multicast_group) {
  int error = ::nl_socket_add_membership(socket_.get(), static_cast<int>(multicast_group));
  if (error < 0) {
    return Error(
        std::errc::io_error,
        std::string("generic netlink: joining the group of events: ") + ::nl_geterror(error));
  }
  return {};
}

}  // namespace

Result<std::unique_ptr<NetlinkSocket>> open_netlink_socket() {
  auto socket = std::make_unique<KernelSocket>();
  NBDKIT_TRY(socket->open());
  return std::unique_ptr<NetlinkSocket>(std::move(socket));
}

}  // namespace nbdkit
