// SPDX-License-Identifier: BSD-3-Clause
#include "async/stream.h"

#include <sys/socket.h>

#include <algorithm>
#include <climits>

namespace nbdkit {
namespace {

template <typename Call>
Result<std::size_t> without_eintr(Call call) {
  for (;;) {
    ssize_t n = call();
    if (n >= 0) return static_cast<std::size_t>(n);
    // No text: EAGAIN is part of normal work, and nothing is allocated on the data path.
    if (errno != EINTR) return static_cast<std::errc>(errno);
  }
}

}  // namespace

void enlarge_send_buffer(int socket) {
  int now = 0;
  socklen_t length = sizeof now;
  ::getsockopt(socket, SOL_SOCKET, SO_SNDBUF, &now, &length);
  if (now >= 2 * kSendBufferSize) return;  // The kernel keeps and tells twice what was asked for.
  const int wanted = kSendBufferSize;
  if (::setsockopt(socket, SOL_SOCKET, SO_SNDBUFFORCE, &wanted, sizeof wanted) != 0) {
    ::setsockopt(socket, SOL_SOCKET, SO_SNDBUF, &wanted, sizeof wanted);
  }
}

Result<std::size_t> SocketStream::receive(std::span<iovec> into) {
  if (into.size() == 1) {  // recv() costs less than recvmsg().
    return without_eintr(
        [&] { return ::recv(socket_.get(), into[0].iov_base, into[0].iov_len, MSG_DONTWAIT); });
  }
  msghdr message{};
  message.msg_iov = into.data();
  message.msg_iovlen = into.size();
  return without_eintr([&] { return ::recvmsg(socket_.get(), &message, MSG_DONTWAIT); });
}

Result<std::size_t> SocketStream::send(std::span<const iovec> from) {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(from.data());  // sendmsg() does not write to it.
  message.msg_iovlen = std::min<std::size_t>(from.size(), IOV_MAX);
  return without_eintr(
      [&] { return ::sendmsg(socket_.get(), &message, MSG_DONTWAIT | MSG_NOSIGNAL); });
}

}  // namespace nbdkit
