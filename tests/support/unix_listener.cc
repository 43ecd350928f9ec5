// SPDX-License-Identifier: BSD-3-Clause
#include "support/unix_listener.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "base/check.h"

namespace nbdkit {

UnixListener::UnixListener(std::function<void(UniqueFd)> accepted)
    : accepted_(std::move(accepted)) {
  char name[] = "/tmp/nbdkit-test-XXXXXX";
  NBDKIT_CHECK(::mkdtemp(name) != nullptr);
  folder_ = name;
  path_ = folder_ + "/socket";
  open();
}

UnixListener::~UnixListener() {
  close();
  ::rmdir(folder_.c_str());
}

void UnixListener::open() {
  socket_.reset(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path_.data(), path_.size());
  const auto* where = reinterpret_cast<const sockaddr*>(&address);
  NBDKIT_CHECK(::bind(socket_.get(), where, sizeof address) == 0);
  NBDKIT_CHECK(::listen(socket_.get(), SOMAXCONN) == 0);
  thread_ = std::thread([this] { accept_all(); });
}

void UnixListener::close() {
  if (!socket_) return;
  ::shutdown(socket_.get(), SHUT_RDWR);  // Ends accept().
  thread_.join();
  socket_.reset();
  ::unlink(path_.c_str());
}

void UnixListener::accept_all() {
  for (;;) {
    UniqueFd connection(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!connection) return;
    Result<UniqueFd> copy = connection.duplicate();
    {
      std::lock_guard lock(mutex_);
      connections_.push_back(std::move(copy).value());
    }
    accepted_(std::move(connection));
  }
}

void UnixListener::break_connections() {
  std::lock_guard lock(mutex_);
  for (UniqueFd& one : connections_) ::shutdown(one.get(), SHUT_RDWR);
}

std::size_t UnixListener::accepted() const {
  std::lock_guard lock(mutex_);
  return connections_.size();
}

}  // namespace nbdkit
