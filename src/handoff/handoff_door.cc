// SPDX-License-Identifier: BSD-3-Clause
#include "handoff/handoff_door.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>

#include "async/post.h"
#include "base/check.h"

namespace nbdkit {
namespace {

UniqueFd new_socket() {
  return UniqueFd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) {
    return Error(std::errc::filename_too_long, fmt::format("{}: a socket's path has 1 to {} bytes",
                                                           path, sizeof address.sun_path - 1));
  }
  std::memcpy(address.sun_path, path.c_str(), path.size());
  return address;
}

// A socket that its server has left behind refuses connections.
bool is_stale(const sockaddr_un& address) {
  struct stat status;
  if (::lstat(address.sun_path, &status) != 0 || !S_ISSOCK(status.st_mode)) return false;
  UniqueFd probe = new_socket();
  return ::connect(probe.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 &&
         errno == ECONNREFUSED;
}

int socket_option(int socket, int name) {
  int value = -1;
  socklen_t length = sizeof value;
  if (::getsockopt(socket, SOL_SOCKET, name, &value, &length) != 0) return -1;
  return value;
}

std::optional<uid_t> peer_user(int socket) {
  ucred peer;
  socklen_t length = sizeof peer;
  if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &length) != 0) return std::nullopt;
  return peer.uid;
}

void refuse(int socket, HandoffFault fault, std::string_view sentence) {
  Json body = Json::object();
  body.set("code", fault_name(fault)).set("message", sentence);
  (void)send_handoff(socket, HandoffKind::error, 0, body);
}

}  // namespace

Result<UniqueFd> listen_handoff(const std::string& path, mode_t mode) {
  Result<sockaddr_un> named = address_of(path);
  if (!named.ok()) return std::move(named).error();
  const sockaddr_un address = named.value();
  if (is_stale(address)) ::unlink(path.c_str());
  UniqueFd socket = new_socket();
  if (!socket) return os_error(path);
  // The node is made with the socket's own mode, so that nobody is let in for a moment.
  if (::fchmod(socket.get(), 0600) != 0) return os_error(path);
  auto* name = reinterpret_cast<const sockaddr*>(&address);
  if (::bind(socket.get(), name, sizeof address) != 0) return os_error(path);
  if (::chmod(path.c_str(), mode) != 0) return os_error(path);
  if (::listen(socket.get(), SOMAXCONN) != 0) return os_error(path);
  return socket;
}

Result<UniqueFd> connect_handoff(const std::string& path) {
  Result<sockaddr_un> address = address_of(path);
  if (!address.ok()) return std::move(address).error();
  UniqueFd socket = new_socket();
  if (!socket) return os_error(path);
  auto* name = reinterpret_cast<const sockaddr*>(&address.value());
  if (::connect(socket.get(), name, sizeof(sockaddr_un)) != 0) return os_error(path);
  return socket;
}

HandoffDoor::HandoffDoor(Loop& loop, Server& server, Log& log, HandoffTerms terms,
                         std::vector<uid_t> users, std::function<void()> emptied)
    : loop_(loop),
      server_(server),
      log_(log),
      terms_(terms),
      users_(std::move(users)),
      emptied_(std::move(emptied)),
      gate_(loop) {}

HandoffDoor::~HandoffDoor() { NBDKIT_CHECK(controls_.empty()); }

Result<void> HandoffDoor::open(UniqueFd socket) {
  bool fits = socket_option(socket.get(), SO_TYPE) == SOCK_SEQPACKET &&
              socket_option(socket.get(), SO_DOMAIN) == AF_UNIX;
  if (!fits) {
    return Error(
        std::errc::invalid_argument,
        fmt::format("descriptor {} is no Unix socket of the type SOCK_SEQPACKET", socket.get()));
  }
  if (socket_option(socket.get(), SO_ACCEPTCONN) == 1) {
    // accept() has no MSG_DONTWAIT.
    if (::fcntl(socket.get(), F_SETFL, O_NONBLOCK) != 0) return os_error("O_NONBLOCK");
    auto take = [this](UniqueFd control) { accepted(std::move(control)); };
    return listeners_.emplace_back(loop_, log_, std::move(socket), take).start();
  }
  std::optional<uid_t> user = peer_user(socket.get());
  if (!user || *user == static_cast<uid_t>(-1)) {
    return Error(std::errc::not_connected,
                 fmt::format("descriptor {} is a socket that is not connected", socket.get()));
  }
  given_control_ = true;
  return adopt(std::move(socket), *user);
}

Result<void> HandoffDoor::adopt(UniqueFd socket, uid_t user) {
  auto control =
      std::make_unique<HandoffControl>(loop_, server_, log_, terms_, std::move(socket), user);
  HandoffControl& entry = *control;
  NBDKIT_TRY(entry.start([this, &entry] { retire(entry); }));
  controls_.push_back(std::move(control));
  return {};
}

void HandoffDoor::accepted(UniqueFd socket) {
  std::optional<uid_t> user = peer_user(socket.get());
  bool heard = user && (*user == 0 || *user == ::geteuid() ||
                        std::find(users_.begin(), users_.end(), *user) != users_.end());
  if (!heard) {
    log_.error("handoff", "user {} is not allowed to give sockets", user ? int(*user) : -1);
    return refuse(socket.get(), HandoffFault::forbidden,
                  "this user is not among those that may give sockets (--handoff-user)");
  }
  auto own = std::count_if(controls_.begin(), controls_.end(),
                           [&](const auto& control) { return control->user() == *user; });
  if (*user != 0 && own >= static_cast<std::ptrdiff_t>(kControlsMax)) {
    return refuse(
        socket.get(), HandoffFault::limit,
        fmt::format("user {} has {} control sockets already, and may have no more", *user, own));
  }
  Result<void> adopted = adopt(std::move(socket), *user);
  if (!adopted.ok()) log_.error("handoff", "{}", adopted.error().message());
}

// The control stands on the stack that calls this, so its end comes later.
void HandoffDoor::retire(HandoffControl& control) {
  auto found = std::find_if(controls_.begin(), controls_.end(),
                            [&](const auto& entry) { return entry.get() == &control; });
  if (found == controls_.end()) return;
  std::unique_ptr<HandoffControl> owned = std::move(*found);
  controls_.erase(found);
  NBDKIT_CHECK(gate_.enter());
  post(loop_, [this, raw = owned.release()] {
    finish(end(std::unique_ptr<HandoffControl>(raw)), [this](Result<void>) {
      gate_.leave();
      if (!is_open()) emptied_();
    });
  });
}

Task<void> HandoffDoor::end(std::unique_ptr<HandoffControl> control) { co_await control->stop(); }

Task<void> HandoffDoor::stop() {
  listeners_.clear();
  for (auto& control : controls_) co_await control->stop();
  controls_.clear();
  co_await gate_.drained();
}

}  // namespace nbdkit
