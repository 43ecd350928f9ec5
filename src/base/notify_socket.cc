// SPDX-License-Identifier: BSD-3-Clause
#include "base/notify_socket.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "base/check.h"
#include "base/unique_fd.h"

namespace nbdkit {
namespace {

std::string take_variable(const char* name) {
  const char* value = ::getenv(name);
  std::string text = value != nullptr ? value : "";
  ::unsetenv(name);
  return text;
}

// A day; more is no limit, and would not fit.
constexpr std::uint64_t kWatchdogMax = 24ull * 3600 * 1'000'000;

Nanoseconds parse_watchdog(const std::string& limit, const std::string& pid) {
  if (!pid.empty() && pid != fmt::format("{}", ::getpid())) return Nanoseconds(0);
  Result<std::uint64_t> number = parse_unsigned(limit, kWatchdogMax);
  if (!number.ok()) return Nanoseconds(0);
  return Nanoseconds(static_cast<std::int64_t>(number.value()) * 1000);
}

Result<socklen_t> fill_address(const std::string& text, sockaddr_un& address) {
  address.sun_family = AF_UNIX;
  bool abstract = text[0] == '@';
  // A path keeps its terminating zero, an abstract name has none.
  std::size_t room = sizeof address.sun_path - (abstract ? 0 : 1);
  if ((text[0] != '/' && !abstract) || text.size() < 2 || text.size() > room) {
    return Error(std::errc::invalid_argument,
                 fmt::format("NOTIFY_SOCKET: '{}' is no absolute path and no abstract name", text));
  }
  std::memcpy(address.sun_path, text.data(), text.size());
  if (abstract) address.sun_path[0] = '\0';
  return static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + text.size() + !abstract);
}

}  // namespace

NotifySocket NotifySocket::from_environment() {
  NotifySocket socket;
  socket.address_ = take_variable("NOTIFY_SOCKET");
  std::string limit = take_variable("WATCHDOG_USEC");
  socket.watchdog_limit_ = parse_watchdog(limit, take_variable("WATCHDOG_PID"));
  socket.may_store_ = take_variable("FDSTORE") != "0";
  return socket;
}

// A socket for each message: they are few, and no number is taken that somebody might have passed.
Result<void> NotifySocket::deliver(std::string_view text, std::span<const int> descriptors,
                                   int flags) const {
  if (address_.empty()) return {};
  NBDKIT_CHECK(descriptors.size() <= kDescriptorsMax);
  sockaddr_un address{};
  Result<socklen_t> length = fill_address(address_, address);
  if (!length.ok()) return std::move(length).error();
  UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  if (!socket) return os_error("NOTIFY_SOCKET");
  timeval limit{kSendMax.count(), 0};
  ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);

  iovec bytes{const_cast<char*>(text.data()), text.size()};
  msghdr message{};
  message.msg_name = &address;
  message.msg_namelen = length.value();
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kDescriptorsMax * sizeof(int))> ancillary{};
  if (!descriptors.empty()) {
    message.msg_control = ancillary.data();
    message.msg_controllen = CMSG_SPACE(descriptors.size_bytes());
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(descriptors.size_bytes());
    std::memcpy(CMSG_DATA(header), descriptors.data(), descriptors.size_bytes());
  }
  while (::sendmsg(socket.get(), &message, MSG_NOSIGNAL | flags) < 0) {
    if (errno != EINTR) return os_error(fmt::format("NOTIFY_SOCKET: {}", address_));
  }
  return {};
}

Result<void> NotifySocket::send(std::string_view assignments,
                                std::span<const int> descriptors) const {
  return deliver(assignments, descriptors, 0);
}

void NotifySocket::mention(std::string_view assignments) const {
  (void)deliver(assignments, {}, MSG_DONTWAIT);
}

Result<void> NotifySocket::barrier(Milliseconds limit) const {
  if (address_.empty()) return {};
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return os_error("pipe");
  UniqueFd ours(ends[0]);
  UniqueFd theirs(ends[1]);
  NBDKIT_TRY(deliver("BARRIER=1", std::span(&ends[1], 1), 0));
  theirs.reset();
  // The manager closes its copy when it comes to this message.
  pollfd poll{ours.get(), 0, 0};
  int count = 0;
  do {
    count = ::poll(&poll, 1, static_cast<int>(limit.count()));
  } while (count < 0 && errno == EINTR);
  if (count > 0) return {};
  return Error(std::errc::timed_out, "the service manager does not take what it is told");
}

}  // namespace nbdkit
