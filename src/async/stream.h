// SPDX-License-Identifier: BSD-3-Clause
// ByteStream: what a connection reads from and writes to. A plain socket here; TLS (tls/stream.h)
// is another one.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <span>

#include "base/result.h"
#include "base/unique_fd.h"

namespace nbdkit {

class ByteStream {
 public:
  virtual ~ByteStream() = default;

  // Neither ever blocks: resource_unavailable_try_again when there is nothing to do now.
  // 0 from receive() is the end of the stream.
  virtual Result<std::size_t> receive(std::span<iovec> into) = 0;
  virtual Result<std::size_t> send(std::span<const iovec> from) = 0;

  virtual int fd() const = 0;  // to wait on

  // Whether the last receive() has stopped for want of room and not of bytes. A stream that holds
  // such bytes itself says so: fd() may never become ready for them.
  bool holds_more() const { return holds_more_; }

 protected:
  bool holds_more_ = false;
};

// Asks for MSG_DONTWAIT on every call: the file description may be shared with whoever gave us the
// socket, so its O_NONBLOCK is not ours to set.
class SocketStream final : public ByteStream {
 public:
  explicit SocketStream(UniqueFd socket) : socket_(std::move(socket)) {}

  Result<std::size_t> receive(std::span<iovec> into) override;
  Result<std::size_t> send(std::span<const iovec> from) override;
  int fd() const override { return socket_.get(); }
  UniqueFd release() { return std::move(socket_); }

 private:
  UniqueFd socket_;
};

// Of a Unix socket: with the default, large messages go in many small steps. Best effort, and never
// smaller than it is.
inline constexpr int kSendBufferSize = 512 * 1024;
void enlarge_send_buffer(int socket);

}  // namespace nbdkit
