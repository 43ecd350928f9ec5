// SPDX-License-Identifier: BSD-3-Clause
#include "attach/control_client.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstring>

#include "attach/json_rpc.h"
#include "netlink/exit_code.h"

namespace nbdkit {
namespace {

using Clock = std::chrono::steady_clock;

Error no_answer() {
  return attach_error(ExitCode::timeout,
                      "the keeper of this device does not answer: is it stopped?");
}

bool wait_readable(int fd, Clock::time_point until) {
  for (;;) {
    auto left = std::chrono::ceil<Milliseconds>(until - Clock::now());
    if (left <= Milliseconds(0)) return false;
    pollfd poll{fd, POLLIN, 0};
    int count = ::poll(&poll, 1, static_cast<int>(left.count()));
    if (count > 0) return true;
    if (count < 0 && errno != EINTR) return false;
  }
}

}  // namespace

Result<ControlClient> ControlClient::connect(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return Error(std::errc::filename_too_long, path + ": too long for a socket");
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  // A keeper whose queue of clients is full must not block us.
  UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) return os_error("socket");
  if (::connect(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) < 0) {
    if (errno == EAGAIN) return no_answer();
    return os_error(path);
  }
  ucred peer{};
  socklen_t length = sizeof(peer);
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0 ||
      peer.uid != ::geteuid()) {
    return attach_error(ExitCode::not_permitted, path + ": belongs to another user");
  }
  UniqueFd keeper(static_cast<int>(::syscall(SYS_pidfd_open, peer.pid, 0)));
  return ControlClient(std::move(socket), std::move(keeper));
}

Result<Json> ControlClient::call(std::string_view method, Json params, Milliseconds limit) {
  Json id(next_id_++);
  Json request = Json::object();
  request.set("jsonrpc", "2.0")
      .set("id", id)
      .set("method", method)
      .set("params", std::move(params));
  std::string line = request.dump() + "\n";
  ssize_t sent = ::send(socket_.get(), line.data(), line.size(), MSG_NOSIGNAL);
  if (sent < 0) return os_error("asking the keeper");
  if (sent != static_cast<ssize_t>(line.size())) return no_answer();
  Result<std::string> answer = receive_line(limit);
  if (!answer.ok()) return std::move(answer).error();
  return parse_rpc_answer(answer.value(), id);
}

Result<std::string> ControlClient::receive_line(Milliseconds limit) {
  Clock::time_point until = Clock::now() + limit;
  std::string text;
  std::array<char, 4096> buffer;
  while (text.find('\n') == std::string::npos) {
    if (text.size() > kAnswerSizeMax) {
      return Error(std::errc::protocol_error, "the keeper's answer is too long");
    }
    if (!wait_readable(socket_.get(), until)) return no_answer();
    ssize_t length = ::recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (length < 0 && (errno == EAGAIN || errno == EINTR)) continue;
    if (length < 0) return os_error("asking the keeper");
    if (length == 0) {
      return Error(std::errc::connection_reset, "the keeper ended before it answered");
    }
    text.append(buffer.data(), static_cast<std::size_t>(length));
  }
  return text.substr(0, text.find('\n'));
}

bool ControlClient::wait_for_end(Milliseconds limit) const {
  return !keeper_ || wait_readable(keeper_.get(), Clock::now() + limit);
}

}  // namespace nbdkit
