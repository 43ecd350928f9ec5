// SPDX-License-Identifier: BSD-3-Clause
#include "attach/metrics_server.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "base/parse.h"

namespace nbdkit {
namespace {

struct Address {
  sockaddr_storage storage{};
  socklen_t length = 0;

  sockaddr* get() { return reinterpret_cast<sockaddr*>(&storage); }
};

bool is_path(std::string_view address) { return address.starts_with('/'); }

Error wrong(const std::string& address) {
  return Error(std::errc::invalid_argument,
               fmt::format("--metrics={}: must be [HOST]:PORT, HOST in numbers, or the path of a "
                           "Unix socket",
                           address));
}

Result<Address> parse_path(const std::string& path) {
  Address address;
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  if (path.size() >= sizeof(name.sun_path)) {
    return Error(std::errc::filename_too_long,
                 fmt::format("--metrics={}: too long for a socket", path));
  }
  std::memcpy(name.sun_path, path.data(), path.size());
  std::memcpy(&address.storage, &name, sizeof(name));
  address.length = sizeof(name);
  return address;
}

// Only in numbers: a name could be looked up on the very device that is to be attached.
Result<Address> parse_tcp(const std::string& text) {
  constexpr std::uint64_t kPortMax = 65'535;
  std::size_t colon = text.rfind(':');
  if (colon == std::string::npos) return wrong(text);
  Result<std::uint64_t> port = parse_unsigned(text.substr(colon + 1), kPortMax);
  if (!port.ok() || port.value() == 0) return wrong(text);
  std::string host = text.substr(0, colon);
  if (host.empty() || host == "localhost") host = "127.0.0.1";
  Address address;
  in_addr four{};
  in6_addr six{};
  if (::inet_pton(AF_INET, host.c_str(), &four) == 1) {
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_port = htons(static_cast<std::uint16_t>(port.value()));
    name.sin_addr = four;
    std::memcpy(&address.storage, &name, sizeof(name));
    address.length = sizeof(name);
    return address;
  }
  bool bracketed = host.size() > 2 && host.front() == '[' && host.back() == ']';
  if (!bracketed || ::inet_pton(AF_INET6, host.substr(1, host.size() - 2).c_str(), &six) != 1) {
    return wrong(text);
  }
  sockaddr_in6 name{};
  name.sin6_family = AF_INET6;
  name.sin6_port = htons(static_cast<std::uint16_t>(port.value()));
  name.sin6_addr = six;
  std::memcpy(&address.storage, &name, sizeof(name));
  address.length = sizeof(name);
  return address;
}

Result<Address> parse_address(const std::string& address) {
  return is_path(address) ? parse_path(address) : parse_tcp(address);
}

std::string response(std::string_view status, std::string_view body, bool with_body = true) {
  return fmt::format(
      "HTTP/1.1 {}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
      "Content-Length: {}\r\n{}Connection: close\r\n\r\n{}",
      status, body.size(), status.starts_with("405") ? "Allow: GET, HEAD\r\n" : "",
      with_body ? body : std::string_view());
}

std::string refusal(std::string_view status) {
  return response(status, fmt::format("{}\n", status));
}

// Of what asks for the metrics there is no refusal.
struct Understood {
  std::string refusal = {};
  bool with_body = true;
};

// `request` up to the empty line.
Understood understand(std::string_view request) {
  std::string_view line = request.substr(0, request.find_first_of("\r\n"));
  std::size_t first = line.find(' ');
  std::size_t last = line.rfind(' ');
  if (first == std::string_view::npos || first == 0 || last <= first + 1) {
    return {refusal("400 Bad Request")};
  }
  std::string_view method = line.substr(0, first);
  std::string_view target = line.substr(first + 1, last - first - 1);
  std::string_view version = line.substr(last + 1);
  if (target.find(' ') != std::string_view::npos || !version.starts_with("HTTP/")) {
    return {refusal("400 Bad Request")};
  }
  if (!version.starts_with("HTTP/1.")) return {refusal("505 HTTP Version Not Supported")};
  if (method != "GET" && method != "HEAD") return {refusal("405 Method Not Allowed")};
  if (target.substr(0, target.find('?')) != "/metrics") return {refusal("404 Not Found")};
  return {{}, method == "GET"};
}

}  // namespace

class MetricsServer::Client final : public Watcher {
 public:
  Client(MetricsServer& server, UniqueFd socket, std::uint64_t number)
      : server_(server), socket_(std::move(socket)), number_(number) {}
  ~Client() {
    if (watching_) server_.loop_.unwatch(socket_.get(), *this);
  }

  std::uint64_t number() const { return number_; }
  // What comes when it has asked for the metrics.
  void give(std::string answer) {
    output_ = std::move(answer);
    server_.loop_.change_watch(socket_.get(), EPOLLOUT, *this);
  }

  bool start() {
    watching_ = server_.loop_.watch(socket_.get(), EPOLLIN, *this).ok();
    return watching_;
  }

 private:
  // May free this.
  void ready(std::uint32_t events) noexcept override;
  bool read_input();
  bool take_request();
  bool send_output();

  MetricsServer& server_;
  UniqueFd socket_;
  const std::uint64_t number_;
  std::string input_;
  std::string output_;
  bool answered_ = false;
  std::size_t drained_ = 0;
  bool watching_ = false;
};

void MetricsServer::Client::ready(std::uint32_t events) noexcept {
  bool goes_on = (events & (EPOLLHUP | EPOLLERR)) == 0;
  if (goes_on && (events & EPOLLIN) != 0) goes_on = read_input();
  if (goes_on && !output_.empty()) goes_on = send_output();
  if (goes_on) {
    server_.loop_.change_watch(socket_.get(), output_.empty() ? EPOLLIN : EPOLLOUT, *this);
    return;
  }
  auto& clients = server_.clients_;
  clients.remove_if([this](const auto& client) { return client.get() == this; });
}

bool MetricsServer::Client::read_input() {
  std::array<char, kRequestMax> buffer;
  ssize_t length = ::recv(socket_.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
  if (length < 0) return errno == EAGAIN || errno == EINTR;
  if (length == 0) return false;
  if (answered_) {
    drained_ += static_cast<std::size_t>(length);
    return drained_ <= kDrainMax;
  }
  input_.append(buffer.data(), static_cast<std::size_t>(length));
  return take_request();
}

bool MetricsServer::Client::take_request() {
  std::size_t end = std::min(input_.find("\r\n\r\n"), input_.find("\n\n"));
  if (end == std::string::npos && input_.size() < kRequestMax) return true;
  answered_ = true;
  Understood request{refusal("431 Request Header Fields Too Large")};
  if (end < kRequestMax) request = understand(std::string_view(input_).substr(0, end));
  input_ = {};
  output_ = std::move(request.refusal);
  if (output_.empty()) server_.answer(*this, request.with_body);
  return true;
}

bool MetricsServer::Client::send_output() {
  while (!output_.empty()) {
    ssize_t sent =
        ::send(socket_.get(), output_.data(), output_.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN || errno == EINTR;
    output_.erase(0, static_cast<std::size_t>(sent));
  }
  return ::shutdown(socket_.get(), SHUT_WR) == 0;
}

MetricsServer::MetricsServer(Loop& loop, Text text)
    : loop_(loop), text_(std::move(text)), gate_(loop) {}

MetricsServer::~MetricsServer() {
  clients_.clear();
  if (watching_) loop_.unwatch(listener_.get(), *this);
  struct stat there;
  bool ours = !path_.empty() && ::lstat(path_.c_str(), &there) == 0 && there.st_ino == inode_;
  if (ours) ::unlink(path_.c_str());
}

Result<void> MetricsServer::check(const std::string& address) {
  Result<Address> parsed = parse_address(address);
  if (!parsed.ok()) return std::move(parsed).error();
  return {};
}

// What stands at the path is removed only when it is a socket that nobody listens to.
Result<void> MetricsServer::open_path(const std::string& path) {
  Result<Address> address = parse_path(path);
  if (!address.ok()) return std::move(address).error();
  struct stat there;
  if (::lstat(path.c_str(), &there) == 0 && S_ISSOCK(there.st_mode)) {
    UniqueFd probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    bool refused = ::connect(probe.get(), address.value().get(), address.value().length) < 0 &&
                   errno == ECONNREFUSED;
    if (refused) ::unlink(path.c_str());
  }
  // The node gets the mode that the socket has now; nobody else may connect in between.
  if (::fchmod(listener_.get(), S_IRUSR | S_IWUSR) < 0) return os_error("--metrics=" + path);
  if (::bind(listener_.get(), address.value().get(), address.value().length) < 0) {
    return os_error("--metrics=" + path);
  }
  path_ = path;
  if (::lstat(path.c_str(), &there) == 0) inode_ = there.st_ino;
  return {};
}

Result<void> MetricsServer::open(const std::string& text) {
  Result<Address> parsed = parse_address(text);
  if (!parsed.ok()) return std::move(parsed).error();
  Address& address = parsed.value();
  listener_.reset(
      ::socket(address.get()->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!listener_) return os_error("socket");
  Result<void> bound;
  if (is_path(text)) {
    bound = open_path(text);
  } else {
    // The keeper before this one may have been killed a moment ago.
    int on = 1;
    ::setsockopt(listener_.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (::bind(listener_.get(), address.get(), address.length) < 0) {
      bound = os_error("--metrics=" + text);
    }
  }
  if (bound.ok() && ::listen(listener_.get(), static_cast<int>(kClientsMax)) < 0) {
    bound = os_error("--metrics=" + text);
  }
  if (!bound.ok()) listener_.reset();
  return bound;
}

Result<void> MetricsServer::start() {
  NBDKIT_TRY(loop_.watch(listener_.get(), EPOLLIN, *this));
  watching_ = true;
  return {};
}

// By its number: it may have hung up meanwhile, and another have its place.
void MetricsServer::answer(const Client& client, bool with_body) {
  if (!gate_.enter()) return;
  finish(text_(), [this, number = client.number(), with_body](Result<std::string> text) {
    auto found = std::find_if(clients_.begin(), clients_.end(),
                              [number](const auto& one) { return one->number() == number; });
    if (found != clients_.end()) {
      (*found)->give(text.ok() ? response("200 OK", text.value(), with_body)
                               : refusal("500 Internal Server Error"));
    }
    gate_.leave();
  });
}

Task<void> MetricsServer::stop() {
  clients_.clear();
  if (std::exchange(watching_, false)) loop_.unwatch(listener_.get(), *this);
  co_await gate_.drained();
}

void MetricsServer::ready(std::uint32_t) noexcept {
  UniqueFd socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (!socket) return;
  if (clients_.size() >= kClientsMax) clients_.pop_front();
  clients_.push_back(std::make_unique<Client>(*this, std::move(socket), ++last_number_));
  if (!clients_.back()->start()) clients_.pop_back();
}

}  // namespace nbdkit
