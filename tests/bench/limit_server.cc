// SPDX-License-Identifier: BSD-3-Clause
// nbd-limit: the least work that any NBD server of a memory disk can do; the yardstick of
// tools/bench. One blocking thread a connection; one recv() takes as many requests as the socket
// holds, one sendmsg() answers them all out of the disk's own pages. No checks but of ranges, no
// errors.
//
//   nbd-limit --size BYTES --unix PATH | --tcp PORT | --fd N
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "base/range.h"
#include "proto/handshake.h"
#include "proto/transmission.h"

namespace nbdkit::bench {
namespace {

constexpr std::size_t kBufferSize = std::size_t{1} << 20;

struct Disk {
  std::byte* bytes;
  std::uint64_t size;
};

bool get(int fd, void* to, std::size_t length) {
  return length == 0 || ::recv(fd, to, length, MSG_WAITALL) == static_cast<ssize_t>(length);
}

bool put(int fd, const void* from, std::size_t length) {
  return length == 0 || ::send(fd, from, length, MSG_NOSIGNAL) == static_cast<ssize_t>(length);
}

bool put_all(int fd, std::vector<iovec>& pieces) {
  for (std::size_t first = 0; first < pieces.size();) {
    msghdr message{};
    message.msg_iov = &pieces[first];
    message.msg_iovlen = std::min<std::size_t>(pieces.size() - first, IOV_MAX);
    ssize_t sent = ::sendmsg(fd, &message, MSG_NOSIGNAL);
    if (sent <= 0) return false;
    auto left = static_cast<std::size_t>(sent);
    while (first < pieces.size() && left >= pieces[first].iov_len) left -= pieces[first++].iov_len;
    if (left == 0) continue;
    pieces[first].iov_base = static_cast<std::byte*>(pieces[first].iov_base) + left;
    pieces[first].iov_len -= left;
  }
  return true;
}

bool answer_option(int fd, Option option, OptionReply type, const void* data, std::uint32_t size) {
  OptionReplyWire reply;
  reply.option = option;
  reply.type = type;
  reply.length = size;
  return put(fd, &reply, sizeof reply) && put(fd, data, size);
}

bool shake_hands(int fd, const Disk& disk) {
  using namespace transmission_flag;
  GreetingWire greeting;
  greeting.flags = kFixedNewstyle | kNoZeroes;
  Be<std::uint32_t> client_flags;
  if (!put(fd, &greeting, sizeof greeting) || !get(fd, &client_flags, sizeof client_flags)) {
    return false;
  }
  for (;;) {
    OptionWire wire;
    if (!get(fd, &wire, sizeof wire)) return false;
    std::string data(wire.length.get(), '\0');
    if (!get(fd, data.data(), data.size())) return false;
    Option option = wire.option.get();
    if (option == Option::go || option == Option::info) {
      InfoExportWire info;
      info.size = disk.size;
      info.flags = kHasFlags | kFlush | kFua | kTrim | kWriteZeroes | kMultiConn;
      bool told = answer_option(fd, option, OptionReply::info, &info, sizeof info) &&
                  answer_option(fd, option, OptionReply::ack, nullptr, 0);
      if (!told || option == Option::go) return told;
    } else if (option == Option::abort ||
               !answer_option(fd, option, OptionReply::unsupported, nullptr, 0)) {
      return false;
    }
  }
}

class Connection {
 public:
  Connection(int fd, const Disk& disk) : fd_(fd), disk_(disk), buffer_(kBufferSize) {
    replies_.reserve(kBufferSize / sizeof(RequestWire) + 1);  // pieces_ points into it
  }

  void serve() {
    for (;;) {
      std::memmove(buffer_.data(), buffer_.data() + begin_, end_ - begin_);
      end_ -= std::exchange(begin_, 0);
      ssize_t got = ::recv(fd_, buffer_.data() + end_, kBufferSize - end_, 0);
      if (got <= 0) return;
      end_ += static_cast<std::size_t>(got);
      replies_.clear();
      pieces_.clear();
      bool goes_on = take_requests();
      if (!put_all(fd_, pieces_) || !goes_on) return;
    }
  }

 private:
  bool take_requests() {
    while (end_ - begin_ >= sizeof(RequestWire)) {
      std::span packet(buffer_.data() + begin_, sizeof(RequestWire));
      auto request = parse_request(packet.first<sizeof(RequestWire)>());
      if (!request || request->command == Command::disconnect) return false;
      bool read = request->command == Command::read;
      bool write = request->command == Command::write;
      if ((read || write) && !range_fits(request->offset, request->length, disk_.size))
        return false;
      if (write && !take_payload(*request)) return end_ - begin_ < kBufferSize / 2;
      if (!write) begin_ += sizeof(RequestWire);
      SimpleReplyWire reply;
      reply.error = 0;
      reply.cookie = request->cookie;
      replies_.push_back(reply);
      pieces_.push_back({&replies_.back(), sizeof reply});
      if (read) pieces_.push_back({disk_.bytes + request->offset, request->length});
    }
    return true;
  }

  // False: it is short and still on its way. A long one is received where it belongs.
  bool take_payload(const RequestHeader& request) {
    std::size_t here = end_ - begin_ - sizeof(RequestWire);
    const std::byte* payload = buffer_.data() + begin_ + sizeof(RequestWire);
    if (here >= request.length) {
      std::memcpy(disk_.bytes + request.offset, payload, request.length);
      begin_ += sizeof(RequestWire) + request.length;
      return true;
    }
    if (request.length < kBufferSize / 8) return false;
    std::memcpy(disk_.bytes + request.offset, payload, here);
    begin_ = end_;
    return get(fd_, disk_.bytes + request.offset + here, request.length - here);
  }

  int fd_;
  const Disk& disk_;
  std::vector<std::byte> buffer_;
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::vector<SimpleReplyWire> replies_;
  std::vector<iovec> pieces_;
};

[[noreturn]] void give_up(const std::string& what) {
  std::perror(("nbd-limit: " + what).c_str());
  std::exit(1);
}

int listen_on(const std::string& path, std::uint16_t port) {
  sockaddr_un local{};
  local.sun_family = AF_UNIX;
  std::snprintf(local.sun_path, sizeof local.sun_path, "%s", path.c_str());
  sockaddr_in tcp{};
  tcp.sin_family = AF_INET;
  tcp.sin_port = htons(port);
  tcp.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* name = port != 0 ? reinterpret_cast<sockaddr*>(&tcp) : reinterpret_cast<sockaddr*>(&local);
  socklen_t length = port != 0 ? sizeof tcp : sizeof local;
  int fd = ::socket(name->sa_family, SOCK_STREAM, 0);
  const int on = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::bind(fd, name, length) != 0 || ::listen(fd, SOMAXCONN) != 0) give_up("listen");
  return fd;
}

int run(int argc, char** argv) {
  std::uint64_t size = 1 << 30;
  std::string path;
  std::uint16_t port = 0;
  int given = -1;
  CLI::App app("The yardstick for NBD servers: a memory disk with the least work.");
  app.add_option("--size", size, "bytes");
  auto* where = app.add_option_group("where");
  where->add_option("--unix", path);
  where->add_option("--tcp", port, "port on 127.0.0.1");
  where->add_option("--fd", given, "an inherited socket, without a handshake; ends with it");
  where->require_option(1);
  CLI11_PARSE(app, argc, argv);
  void* bytes = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (bytes == MAP_FAILED) give_up("mmap");
  Disk disk{static_cast<std::byte*>(bytes), size};
  if (given >= 0) {
    Connection(given, disk).serve();
    return 0;
  }
  int listener = listen_on(path, port);
  for (;;) {
    int fd = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd < 0) give_up("accept");
    if (port != 0) {
      const int on = 1;
      ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    }
    std::thread([fd, &disk] {
      if (shake_hands(fd, disk)) Connection(fd, disk).serve();
      ::close(fd);
    }).detach();
  }
}

}  // namespace
}  // namespace nbdkit::bench

int main(int argc, char** argv) { return nbdkit::bench::run(argc, argv); }
