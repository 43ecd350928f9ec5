// SPDX-License-Identifier: BSD-3-Clause
#include "bench/load_tls.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>

#include <type_traits>
#include <utility>

#include "bench/load_connection.h"

namespace nbdkit::bench {
namespace {

template <typename T>
T must(Result<T> result) {
  if (!result.ok()) give_up(std::string(result.error().message()).c_str());
  if constexpr (!std::is_void_v<T>) return std::move(result).value();
}

}  // namespace

LoadTls::LoadTls(int socket, const std::string& certificates)
    : socket_(UniqueFd(::fcntl(socket, F_DUPFD_CLOEXEC, 0))) {
  ClientTls options;
  options.certificates = certificates;
  tls_ = must(TlsStream::client(socket_, must(TlsCredentials::for_client(options)), "localhost"));
  must(loop_.run([this] { return tls_->handshake(loop_, gate_, TlsStream::Kernel::never); }));
}

void LoadTls::wait(short events) {
  pollfd state{socket_.fd(), events, 0};
  ::poll(&state, 1, -1);
}

ssize_t LoadTls::receive(std::span<std::byte> into, int flags) {
  iovec piece{into.data(), into.size()};
  for (;;) {
    Result<std::size_t> received = tls_->receive(std::span(&piece, 1));
    if (received.ok()) return static_cast<ssize_t>(received.value());
    if (received.error().code != std::errc::resource_unavailable_try_again)
      must(std::move(received));
    errno = EAGAIN;
    if ((flags & MSG_DONTWAIT) != 0) return -1;
    wait(POLLIN);
  }
}

ssize_t LoadTls::send(std::span<const std::byte> from, int flags) {
  const iovec piece{const_cast<std::byte*>(from.data()), from.size()};
  for (;;) {
    Result<std::size_t> sent = tls_->send(std::span(&piece, 1));
    if (sent.ok()) return static_cast<ssize_t>(sent.value());
    if (sent.error().code != std::errc::resource_unavailable_try_again) must(std::move(sent));
    errno = EAGAIN;
    if ((flags & MSG_DONTWAIT) != 0) return -1;
    wait(POLLOUT);
  }
}

}  // namespace nbdkit::bench
