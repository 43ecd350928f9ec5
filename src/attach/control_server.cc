// SPDX-License-Identifier: BSD-3-Clause
#include "attach/control_server.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

namespace nbdkit {

// One call at a time: the next line is looked at when the answer to the last one has been taken.
class ControlServer::Client final : public Watcher {
 public:
  Client(ControlServer& server, UniqueFd socket) : server_(server), socket_(std::move(socket)) {}
  ~Client() {
    if (watching_) server_.loop_.unwatch(socket_.get(), *this);
  }

  bool start() {
    watching_ = server_.loop_.watch(socket_.get(), EPOLLIN, *this).ok();
    return watching_;
  }
  bool calling() const { return calling_; }

 private:
  static constexpr std::size_t kReadMax = 4096;

  // May free this.
  void ready(std::uint32_t events) noexcept override;
  bool read_input();
  void take_lines();
  void take_line(std::string_view line);
  void answered(Result<Json> result);
  void answer(const Json& message);
  bool send_output();
  void update();

  ControlServer& server_;
  UniqueFd socket_;
  std::string input_;
  std::string output_;
  RpcCall call_;
  bool calling_ = false;
  bool watching_ = false;
  bool ended_ = false;  // The other side is gone, or talks nonsense.
};

void ControlServer::Client::ready(std::uint32_t events) noexcept {
  if ((events & (EPOLLHUP | EPOLLERR)) != 0) ended_ = true;
  if (!ended_ && (events & EPOLLOUT) != 0) ended_ = !send_output();
  if (!ended_ && (events & EPOLLIN) != 0) ended_ = !read_input();
  if (!ended_) take_lines();
  update();
}

bool ControlServer::Client::read_input() {
  std::array<char, kReadMax> buffer;
  ssize_t length = ::recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (length < 0) return errno == EAGAIN || errno == EINTR;
  if (length == 0) return false;
  input_.append(buffer.data(), static_cast<std::size_t>(length));
  return true;
}

void ControlServer::Client::take_lines() {
  while (!calling_ && output_.empty() && !ended_) {
    std::size_t end = input_.find('\n');
    if (end == std::string::npos && input_.size() <= kLineMax) return;
    if (std::min(end, input_.size()) > kLineMax) {
      answer(rpc_problem(Json(), RpcCode::invalid_request,
                         fmt::format("a line is longer than {} bytes", kLineMax)));
      ended_ = true;
      return;
    }
    std::string line = input_.substr(0, end);
    input_.erase(0, end + 1);
    take_line(line);
  }
}

void ControlServer::Client::take_line(std::string_view line) {
  auto parsed = parse_rpc_call(line);
  if (const Json* problem = std::get_if<Json>(&parsed)) return answer(*problem);
  call_ = std::get<RpcCall>(std::move(parsed));
  if (!server_.handler_.knows(call_.method)) {
    if (call_.id.is_null()) return;
    return answer(rpc_problem(call_.id, RpcCode::method_not_found,
                              fmt::format("there is no method \"{}\"", call_.method)));
  }
  if (!server_.gate_.enter()) {
    ended_ = true;
    return;
  }
  calling_ = true;
  finish(server_.handler_.call(call_), [this](Result<Json> result) {
    answered(std::move(result));
    server_.gate_.leave();
    // Not from the call itself: whoever called take_line() still uses this.
    if (watching_) server_.loop_.change_watch(socket_.get(), EPOLLOUT, *this);
    if (!watching_) update();
  });
}

void ControlServer::Client::answered(Result<Json> result) {
  calling_ = false;
  if (call_.id.is_null()) return;
  if (result.ok()) return answer(rpc_result(call_.id, std::move(result).value()));
  if (result.error().code == std::errc::argument_out_of_domain) {
    return answer(rpc_problem(call_.id, RpcCode::invalid_params, result.error().message()));
  }
  answer(rpc_failure(call_.id, result.error()));
}

void ControlServer::Client::answer(const Json& message) {
  output_ += message.dump() + "\n";
  if (!send_output()) ended_ = true;
}

bool ControlServer::Client::send_output() {
  while (!output_.empty()) {
    ssize_t sent =
        ::send(socket_.get(), output_.data(), output_.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN || errno == EINTR;
    output_.erase(0, static_cast<std::size_t>(sent));
  }
  return true;
}

void ControlServer::Client::update() {
  if (ended_ && watching_) {
    // A hang-up is reported for as long as it is watched for.
    server_.loop_.unwatch(socket_.get(), *this);
    watching_ = false;
  }
  if (ended_ && !calling_) {
    auto& clients = server_.clients_;
    clients.remove_if([this](const auto& client) { return client.get() == this; });
    return;  // this is gone
  }
  if (!watching_) return;
  std::uint32_t events = 0;
  if (!output_.empty()) {
    events = EPOLLOUT;
  } else if (!calling_) {
    events = EPOLLIN;
  }
  server_.loop_.change_watch(socket_.get(), events, *this);
}

ControlServer::ControlServer(Loop& loop, ControlHandler& handler)
    : loop_(loop), handler_(handler), gate_(loop) {}

ControlServer::~ControlServer() = default;

Result<void> ControlServer::start(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    return Error(std::errc::filename_too_long, path + ": too long for a socket");
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!listener) return os_error("socket");
  ::unlink(path.c_str());
  if (::bind(listener.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)) < 0 ||
      ::listen(listener.get(), static_cast<int>(kClientsMax)) < 0) {
    return os_error(path);
  }
  NBDKIT_TRY(loop_.watch(listener.get(), EPOLLIN, *this));
  listener_ = std::move(listener);
  return {};
}

void ControlServer::ready(std::uint32_t) noexcept {
  UniqueFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (socket) accept_one(std::move(socket));
}

void ControlServer::accept_one(UniqueFd socket) {
  ucred peer{};
  socklen_t length = sizeof(peer);
  if (::getsockopt(socket.get(), SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0) return;
  if (peer.uid != ::geteuid()) return;
  if (clients_.size() >= kClientsMax) {
    std::string refusal =
        rpc_problem(Json(), RpcCode::failed, "too many clients of this keeper").dump() + "\n";
    ::send(socket.get(), refusal.data(), refusal.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    return;
  }
  clients_.push_back(std::make_unique<Client>(*this, std::move(socket)));
  if (!clients_.back()->start()) clients_.pop_back();
}

Task<void> ControlServer::stop() {
  if (listener_) {
    loop_.unwatch(listener_.get(), *this);
    listener_.reset();
  }
  co_await gate_.drained();
  clients_.clear();
}

}  // namespace nbdkit
