// SPDX-License-Identifier: BSD-3-Clause
#include "bench/load_connection.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>

#include "proto/handshake.h"
#include "proto/transmission.h"

namespace nbdkit::bench {
namespace {

constexpr std::size_t kLatenciesMax = std::size_t{1} << 22;
constexpr std::size_t kBufferMax = std::size_t{4} << 20;

std::uint64_t now_ns() {
  auto since = std::chrono::steady_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::nanoseconds(since).count());
}

UniqueFd dial_unix(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) give_up("the path is too long");
  std::memcpy(address.sun_path, path.c_str(), path.size());
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  auto* name = reinterpret_cast<sockaddr*>(&address);
  if (::connect(fd.get(), name, sizeof address) != 0) give_up("connect");
  return fd;
}

UniqueFd dial_tcp(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  auto* name = reinterpret_cast<sockaddr*>(&address);
  if (::connect(fd.get(), name, sizeof address) != 0) give_up("connect");
  const int on = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return fd;
}

}  // namespace

void give_up(const char* what) {
  std::fputs(fmt::format("load: {}: {}\n", what, std::strerror(errno)).c_str(), stderr);
  std::_Exit(1);
}

LoadConnection::LoadConnection(const LoadOptions& options, unsigned number)
    : options_(options),
      size_(options.size),
      random_(88172645463325252ull + number),
      slots_(options.depth),
      payload_(options.block_size, std::byte{'x'}) {
  if (!options.fds.empty()) {
    socket_.reset(options.fds[number]);
  } else {
    socket_ = options.tcp_port != 0 ? dial_tcp(options.tcp_port) : dial_unix(options.unix_path);
    shake_hands();
  }
  for (unsigned slot = 0; slot < options.depth; ++slot) free_.push_back(slot);
  std::uint64_t blocks = size_ / options.block_size;
  if (blocks == 0) give_up("the export is smaller than a block");
  sequence_ = number * (blocks / options.connections);
  std::size_t all = options.depth * (options.block_size + std::size_t{64}) + 65536;
  std::size_t least = 2 * std::size_t{options.block_size} + 4096;
  in_.resize(std::max(std::min(all, kBufferMax), least));
  if (!options.idle) latencies_ns_.reserve(kLatenciesMax);
}

void LoadConnection::get(void* to, std::size_t length) {
  auto* bytes = static_cast<std::byte*>(to);
  while (length > 0) {
    ssize_t n = tls_ ? tls_->receive({bytes, length}, 0) : ::recv(socket_.get(), bytes, length, 0);
    if (n <= 0) give_up("recv");
    bytes += n;
    length -= static_cast<std::size_t>(n);
  }
}

void LoadConnection::put(const void* from, std::size_t length) {
  const auto* bytes = static_cast<const std::byte*>(from);
  ssize_t n =
      tls_ ? tls_->send({bytes, length}, 0) : ::send(socket_.get(), bytes, length, MSG_NOSIGNAL);
  if (n != static_cast<ssize_t>(length)) give_up("send");
}

void LoadConnection::start_tls() {
  OptionWire option;
  option.magic = kOptionMagic;
  option.option = Option::starttls;
  option.length = 0;
  put(&option, sizeof option);
  OptionReplyWire reply;
  get(&reply, sizeof reply);
  if (reply.type.get() != OptionReply::ack) give_up("the server refused TLS");
  tls_ = std::make_unique<LoadTls>(socket_.get(), options_.tls_certificates);
}

void LoadConnection::shake_hands() {
  GreetingWire greeting;
  get(&greeting, sizeof greeting);
  Be<std::uint32_t> flags;
  flags = kFixedNewstyle | kNoZeroes;
  put(&flags, sizeof flags);
  if (!options_.tls_certificates.empty()) start_tls();
  const std::string& name = options_.export_name;
  struct Go {
    OptionWire option;
    Be<std::uint32_t> name_length;
  } go{};
  Be<std::uint16_t> infos{0};  // no information requests
  go.option.magic = kOptionMagic;
  go.option.option = Option::go;
  go.option.length = static_cast<std::uint32_t>(sizeof go.name_length + name.size() + sizeof infos);
  go.name_length = static_cast<std::uint32_t>(name.size());
  put(&go, sizeof go);
  put(name.data(), name.size());
  put(&infos, sizeof infos);
  std::uint64_t export_size = 0;
  for (;;) {
    OptionReplyWire reply;
    get(&reply, sizeof reply);
    std::string data(reply.length.get(), '\0');
    if (!data.empty()) get(data.data(), data.size());
    if (reply.type.get() == OptionReply::ack) break;
    if (reply.type.get() != OptionReply::info) give_up("the server refused the export");
    InfoExportWire info;
    if (data.size() < sizeof info) continue;
    std::memcpy(&info, data.data(), sizeof info);
    if (info.type.get() == Info::export_) export_size = info.size.get();
  }
  size_ = size_ == 0 ? export_size : std::min(size_, export_size);
}

std::uint64_t LoadConnection::next_block() {
  const std::uint64_t blocks = size_ / options_.block_size;
  if (options_.sequential) return sequence_++ % blocks;
  random_ ^= random_ << 13;
  random_ ^= random_ >> 7;
  random_ ^= random_ << 17;
  return random_ % blocks;
}

void LoadConnection::begin(unsigned slot) {
  std::uint64_t block = next_block();
  bool write = options_.writes_percent > 0 && (random_ >> 40) % 100 < options_.writes_percent;
  slots_[slot] = {now_ns(), write};
  RequestHeader header{write ? Command::write : Command::read, 0, Cookie{slot},
                       block * options_.block_size, options_.block_size};
  RequestWire wire = to_wire(header);
  auto bytes = std::as_bytes(std::span(&wire, 1));
  out_.insert(out_.end(), bytes.begin(), bytes.end());
  if (write) out_.insert(out_.end(), payload_.begin(), payload_.end());
}

void LoadConnection::begin_requests() {
  out_.clear();
  while (!free_.empty()) {
    begin(free_.back());
    free_.pop_back();
  }
}

void LoadConnection::receive(int flags) {
  if (in_begin_ > 0) {
    std::memmove(in_.data(), in_.data() + in_begin_, in_end_ - in_begin_);
    in_end_ -= std::exchange(in_begin_, 0);
  }
  std::span<std::byte> room = std::span(in_).subspan(in_end_);
  ssize_t got =
      tls_ ? tls_->receive(room, flags) : ::recv(socket_.get(), room.data(), room.size(), flags);
  if (got > 0) {
    in_end_ += static_cast<std::size_t>(got);
  } else if (got == 0) {
    give_up("the server closed the connection");
  } else if (errno != EAGAIN) {
    give_up("recv");
  }
}

// Never waits to send while replies wait to be received: both ends would wait for ever.
void LoadConnection::send_all() {
  std::size_t sent = 0;
  while (sent < out_.size()) {
    std::span<const std::byte> rest = std::span(out_).subspan(sent);
    ssize_t n = tls_ ? tls_->send(rest, MSG_DONTWAIT)
                     : ::send(socket_.get(), rest.data(), rest.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n > 0) {
      sent += static_cast<std::size_t>(n);
      continue;
    }
    if (errno != EAGAIN) give_up("send");
    bool room = in_end_ - in_begin_ < in_.size();
    pollfd state{socket_.get(), static_cast<short>(room ? POLLIN | POLLOUT : POLLOUT), 0};
    ::poll(&state, 1, tls_ && tls_->holds_more() ? 0 : -1);
    if (room && ((state.revents & POLLIN) != 0 || tls_)) receive(MSG_DONTWAIT);
  }
}

// 0 when the reply is not there completely.
std::size_t LoadConnection::reply_size(std::span<const std::byte> bytes, unsigned& slot) const {
  SimpleReplyWire reply;
  if (bytes.size() < sizeof reply) return 0;
  std::memcpy(&reply, bytes.data(), sizeof reply);
  if (reply.magic.get() != kSimpleReplyMagic) give_up("no simple reply");
  errno = static_cast<int>(reply.error.get());
  if (errno != 0) give_up("the server answered an error");
  slot = static_cast<unsigned>(reply.cookie.get());
  std::size_t size = sizeof reply + (slots_[slot].write ? 0 : options_.block_size);
  return bytes.size() < size ? 0 : size;
}

bool LoadConnection::take_replies() {
  bool any = false;
  for (;;) {
    unsigned slot = 0;
    std::size_t size = reply_size(std::span(in_).subspan(in_begin_, in_end_ - in_begin_), slot);
    if (size == 0) return any;
    in_begin_ += size;
    std::uint64_t ns = now_ns() - slots_[slot].begun_ns;
    if (latencies_ns_.size() < kLatenciesMax) {
      constexpr std::uint64_t kMax = std::numeric_limits<std::uint32_t>::max();
      latencies_ns_.push_back(static_cast<std::uint32_t>(std::min(ns, kMax)));
    }
    free_.push_back(slot);
    done_.store(done() + 1, std::memory_order_relaxed);
    any = true;
  }
}

void LoadConnection::run(const std::atomic<bool>& stop) {
  for (;;) {
    if (!stop.load(std::memory_order_relaxed)) {
      begin_requests();
      send_all();
    }
    if (free_.size() == options_.depth) break;
    while (!take_replies()) receive(0);
  }
  RequestWire leave = to_wire({Command::disconnect, 0, Cookie{0}, 0, 0});
  put(&leave, sizeof leave);
}

void LoadConnection::read_once(unsigned times) {
  for (unsigned i = 0; i < times; ++i) {
    out_.clear();
    begin(free_.back());
    free_.pop_back();
    send_all();
    while (!take_replies()) receive(0);
  }
}

}  // namespace nbdkit::bench
