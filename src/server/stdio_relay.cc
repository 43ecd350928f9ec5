// SPDX-License-Identifier: BSD-3-Clause
#include "server/stdio_relay.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <memory>
#include <utility>

namespace nbdkit {
namespace {

template <typename T>
std::optional<T> socket_option(int fd, int name) {
  T value{};
  socklen_t length = sizeof value;
  if (::getsockopt(fd, SOL_SOCKET, name, &value, &length) != 0) return std::nullopt;
  return value;
}

bool would_block(int error) { return error == EAGAIN || error == EWOULDBLOCK || error == EINTR; }

}  // namespace

bool is_one_socket(int in, int out) {
  if (socket_option<int>(in, SO_TYPE) != SOCK_STREAM) return false;
  if (socket_option<int>(in, SO_ACCEPTCONN) != 0) return false;
  std::optional<std::uint64_t> cookie = socket_option<std::uint64_t>(in, SO_COOKIE);
  return cookie.has_value() && cookie == socket_option<std::uint64_t>(out, SO_COOKIE);
}

void StdioRelay::Pipe::took(ssize_t count) {
  if (count > 0) {
    begin = 0;
    end = static_cast<std::size_t>(count);
  } else if (count == 0 || !would_block(errno)) {
    open = false;
  }
}

void StdioRelay::Pipe::passed(std::size_t count) { begin += count; }

void StdioRelay::Pipe::drop() {
  begin = end = 0;
  open = false;
}

StdioRelay::~StdioRelay() {
  if (thread_) thread_->join();
}

Result<UniqueFd> StdioRelay::start(Loop& loop, Job& ended) {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return os_error("socketpair");
  }
  socket_.reset(ends[0]);
  UniqueFd served(ends[1]);
  Result<Thread> thread = Thread::start("stdio", 0, [this, &loop, &ended] {
    relay();
    loop.post(ended);
  });
  if (!thread.ok()) return std::move(thread).error();
  thread_.emplace(std::move(thread).value());
  return served;
}

void StdioRelay::relay() {
  auto inward = std::make_unique<Pipe>();
  auto outward = std::make_unique<Pipe>();
  while (turn(*inward, *outward)) {
  }
  // The client has to see the end while the process may still be cleaning up.
  in_.reset();
  out_.reset();
  socket_.reset();
}

// Waits for one end or another and moves what it can. False when the socket has been closed and
// nothing is left to pass on.
bool StdioRelay::turn(Pipe& inward, Pipe& outward) {
  if (!outward.open && outward.empty()) return false;
  enum { kIn, kOut, kSocket, kCount };
  pollfd polls[kCount] = {{-1, POLLIN, 0}, {-1, POLLOUT, 0}, {socket_.get(), 0, 0}};
  if (inward.open && inward.empty()) polls[kIn].fd = in_.get();
  if (!inward.empty()) polls[kSocket].events |= POLLOUT;
  if (!outward.empty()) {
    polls[kOut].fd = out_.get();
  } else if (outward.open) {
    polls[kSocket].events |= POLLIN;
  }
  if (polls[kSocket].events == 0) polls[kSocket].fd = -1;
  const int limit_ms = outward.open ? -1 : static_cast<int>(Milliseconds(kFlushMax).count());
  int ready = ::poll(polls, kCount, limit_ms);
  if (ready == 0 && !outward.open) return false;  // The client takes nothing any more.
  if (ready <= 0) return true;

  if (polls[kIn].revents != 0) {
    inward.took(::read(in_.get(), inward.buffer.data(), kBufferSize));
  }
  if ((polls[kSocket].revents & (POLLIN | POLLHUP | POLLERR)) != 0 && outward.empty()) {
    outward.took(::recv(socket_.get(), outward.buffer.data(), kBufferSize, MSG_DONTWAIT));
  }
  if ((polls[kSocket].revents & (POLLOUT | POLLHUP | POLLERR)) != 0 && !inward.empty()) {
    std::span<std::byte> bytes = inward.waiting();
    ssize_t sent = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0) {
      inward.passed(static_cast<std::size_t>(sent));
    } else if (!would_block(errno)) {
      inward.drop();
    }
  }
  if (polls[kOut].revents != 0) {
    std::span<std::byte> bytes = outward.waiting();
    ssize_t written = ::write(out_.get(), bytes.data(), std::min(bytes.size(), kWriteMax));
    if (written >= 0) {
      outward.passed(static_cast<std::size_t>(written));
    } else if (!would_block(errno)) {
      // Whoever cannot be answered is gone; the server learns it from the socket.
      ::shutdown(socket_.get(), SHUT_RDWR);
      inward.drop();
      outward.drop();
    }
  }
  // The client has said its last word, and all of it has been passed on.
  if (!inward.open && inward.empty()) ::shutdown(socket_.get(), SHUT_WR);
  return true;
}

}  // namespace nbdkit
