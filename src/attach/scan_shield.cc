// SPDX-License-Identifier: BSD-3-Clause
#include "attach/scan_shield.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <span>

#include "async/fd_watch.h"
#include "proto/errors.h"
#include "proto/transmission.h"

namespace nbdkit {
namespace {

constexpr Milliseconds kPause{5};
constexpr std::size_t kChunk = 64 * 1024;
constexpr std::array<std::byte, kChunk> kZeroes{};

}  // namespace

class ScanShield::Connection {
 public:
  Connection(Loop& loop, int socket)
      : socket_(socket), watch_(loop, socket, [this] { take_turn(); }) {}

  Result<void> start() { return watch_.start(EPOLLIN); }
  // Ends at a boundary of requests: false when there is none now.
  bool stop() {
    const bool between = gone_ || (have_ == 0 && skip_ == 0 && !owes());
    if (between) watch_.stop();
    return between;
  }

 private:
  bool owes() const { return head_left_ > 0 || zeroes_left_ > 0; }

  void take_turn() noexcept {
    const bool owed = owes();
    while (!gone_ && send() && receive()) {
    }
    if (gone_) return watch_.stop();
    if (owed == owes()) return;
    watch_.stop();
    if (!watch_.start(owes() ? EPOLLOUT : EPOLLIN).ok()) gone_ = true;
  }

  // Whether nothing is left to be sent.
  bool send() {
    while (owes()) {
      const auto* reply = reinterpret_cast<const std::byte*>(&reply_);
      std::span<const std::byte> bytes(reply + sizeof(reply_) - head_left_, head_left_);
      if (bytes.empty()) {
        bytes = std::span(kZeroes).first(std::min<std::uint64_t>(zeroes_left_, kChunk));
      }
      ssize_t sent = ::send(socket_, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      if (sent < 0) return interrupted();
      (head_left_ > 0 ? head_left_ : zeroes_left_) -= static_cast<std::uint64_t>(sent);
    }
    return true;
  }

  // Not a byte more than the request, which the next one could not give to the server.
  bool receive() {
    std::array<std::byte, kChunk> waste;
    auto* request = reinterpret_cast<std::byte*>(&request_);
    std::span<std::byte> room(request + have_, sizeof(request_) - have_);
    if (skip_ > 0) room = std::span(waste).first(std::min<std::uint64_t>(skip_, kChunk));
    ssize_t got = ::recv(socket_, room.data(), room.size(), MSG_DONTWAIT);
    if (got < 0) return interrupted();
    if (got == 0) gone_ = true;
    if (skip_ > 0) {
      skip_ -= static_cast<std::uint64_t>(got);
      if (skip_ == 0) reply(NbdError::io, 0);
      return !gone_;
    }
    have_ += static_cast<std::size_t>(got);
    if (have_ == sizeof(request_)) understand();
    return !gone_;
  }

  void understand() {
    have_ = 0;
    auto bytes = std::as_bytes(std::span(&request_, 1));
    std::optional<RequestHeader> header = parse_request(bytes.first<sizeof(RequestWire)>());
    if (!header || header->command == Command::disconnect) {
      gone_ = true;
      return;
    }
    cookie_ = header->cookie;
    if (header->command == Command::read) return reply(NbdError::none, header->length);
    if (header->command == Command::write && header->length > 0) {
      skip_ = header->length;
      return;
    }
    reply(NbdError::io, 0);
  }

  void reply(NbdError error, std::uint64_t zeroes) {
    reply_.error = static_cast<std::uint32_t>(error);
    reply_.cookie = cookie_;
    head_left_ = sizeof(reply_);
    zeroes_left_ = zeroes;
  }

  // After a call that failed: false, whether it may be tried later or never.
  bool interrupted() {
    gone_ = errno != EAGAIN && errno != EINTR;
    return false;
  }

  int socket_;
  FdWatch watch_;
  bool gone_ = false;
  RequestWire request_{};
  std::size_t have_ = 0;    // of the request
  std::uint64_t skip_ = 0;  // of what it writes
  Cookie cookie_{};
  SimpleReplyWire reply_;
  std::uint64_t head_left_ = 0;
  std::uint64_t zeroes_left_ = 0;
};

ScanShield::ScanShield(Loop& loop) : loop_(loop) {}
ScanShield::~ScanShield() = default;

Result<void> ScanShield::answer(int socket) {
  connections_.push_back(std::make_unique<Connection>(loop_, socket));
  return connections_.back()->start();
}

Task<void> ScanShield::end(Gate& gate) {
  for (const std::unique_ptr<Connection>& connection : connections_) {
    while (!connection->stop()) co_await loop_.sleep(kPause, gate);
  }
  connections_.clear();
}

}  // namespace nbdkit
