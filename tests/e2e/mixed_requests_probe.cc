// SPDX-License-Identifier: BSD-3-Clause
// A client that asks for everything in all sizes and depths, on a socket that needs no handshake.
//   mixed_requests_probe FD SIZE COUNT SEED [bad]
// What is read must be what was written, or zeroes. With `bad` there are also requests that have to
// fail; the last line says how many of how many did.

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <span>
#include <vector>

#include "proto/transmission.h"

namespace nbdkit {
namespace {

constexpr std::size_t kDepthMax = 128;
constexpr std::uint64_t kBlock = 4096;
constexpr std::uint64_t kBlocksMax = 32;       // of a read or write: 128 KiB
constexpr std::uint64_t kLargeBlocks = 320;    // of a few: 1280 KiB, the most that Linux asks for
constexpr std::uint64_t kZeroBlocksMax = 256;  // 1 MiB
constexpr std::uint64_t kRequestsOfADepth = 999;  // then another one

[[noreturn]] void give_up(const char* what) {
  std::fprintf(stderr, "mixed_requests_probe: %s: %s\n", what, std::strerror(errno));
  std::_Exit(1);
}

// What belongs to a place of 8 bytes, always: so any order of overlapping requests is right.
std::uint64_t content(std::uint64_t offset) { return offset * 0x9e3779b97f4a7c15 + 1; }

class Client {
 public:
  Client(int socket, std::uint64_t size, std::uint64_t seed, bool bad)
      : socket_(socket), size_(size), random_(seed), bad_(bad) {
    for (std::size_t i = 0; i < kDepthMax; ++i) free_.push_back(i);
  }

  void run(std::uint64_t count) {
    std::size_t depth = 1;
    while (done_ < count) {
      if (begun_ % kRequestsOfADepth == 0) depth = 1 + random_() % kDepthMax;
      while (begun_ < count && kDepthMax - free_.size() < depth) begin();
      exchange();
    }
    std::printf("%llu of %llu failed\n", static_cast<unsigned long long>(failed_),
                static_cast<unsigned long long>(done_));
  }

 private:
  struct Slot {
    Command command = Command::flush;
    std::uint64_t offset = 0;
    std::uint64_t length = 0;
    bool bad = false;
  };

  void begin() {
    const std::size_t number = free_.back();
    free_.pop_back();
    ++begun_;
    Slot& slot = slots_[number];
    const unsigned kind = random_() % 100;
    slot.command = kind < 44   ? Command::read
                   : kind < 88 ? Command::write
                   : kind < 92 ? Command::trim
                   : kind < 98 ? Command::write_zeroes
                               : Command::flush;
    std::uint16_t flags = 0;
    if (slot.command == Command::write_zeroes && random_() % 2 == 0) flags |= command_flag::kNoHole;
    bool durable = slot.command != Command::read && random_() % 64 == 0;
    if (durable && slot.command != Command::flush) flags |= command_flag::kFua;
    place(slot);
    slot.bad = bad_ && slot.command != Command::flush && random_() % 8 == 0;
    if (slot.bad) spoil(slot);
    RequestWire wire = to_wire({slot.command, flags, Cookie{number}, slot.offset, slot.length});
    append(std::as_bytes(std::span(&wire, 1)));
    if (slot.command == Command::write) append_content(slot);
  }

  void place(Slot& slot) {
    slot.offset = slot.length = 0;
    if (slot.command == Command::flush) return;
    bool has_data = slot.command == Command::read || slot.command == Command::write;
    std::uint64_t blocks = 1;
    // Small ones are what a kernel asks for most.
    if (random_() % 2 == 0) blocks = 1 + random_() % (has_data ? kBlocksMax : kZeroBlocksMax);
    if (random_() % 256 == 0) blocks = kLargeBlocks;
    slot.length = blocks * kBlock;
    slot.offset = random_() % ((size_ - slot.length) / kBlock + 1) * kBlock;
  }

  // Beyond the end, or at no multiple of what direct access needs.
  void spoil(Slot& slot) {
    slot.offset = random_() % 2 == 0 ? size_ : slot.offset + (slot.offset == 0 ? 8 : -8);
  }

  void append(std::span<const std::byte> bytes) {
    out_.insert(out_.end(), bytes.begin(), bytes.end());
  }
  void append_content(const Slot& slot) {
    for (std::uint64_t at = 0; at < slot.length; at += 8) {
      std::uint64_t word = content(slot.offset + at);
      append(std::as_bytes(std::span(&word, 1)));
    }
  }

  void exchange() {
    pollfd state{socket_, static_cast<short>(POLLIN | (out_.empty() ? 0 : POLLOUT)), 0};
    if (::poll(&state, 1, -1) < 0) give_up("poll");
    if ((state.revents & POLLOUT) != 0) send();
    if ((state.revents & (POLLIN | POLLHUP)) != 0) receive();
  }

  void send() {
    ssize_t n =
        ::send(socket_, out_.data() + sent_, out_.size() - sent_, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) give_up("send");
    if (n > 0) sent_ += static_cast<std::size_t>(n);
    if (sent_ == out_.size()) {
      out_.clear();
      sent_ = 0;
    }
  }

  void receive() {
    const std::size_t had = in_.size();
    in_.resize(had + (std::size_t{1} << 20));
    ssize_t n = ::recv(socket_, in_.data() + had, in_.size() - had, MSG_DONTWAIT);
    if (n == 0) give_up("the server has closed the connection");
    if (n < 0 && errno != EAGAIN) give_up("recv");
    in_.resize(had + static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
    std::span<const std::byte> rest = in_;
    while (take_reply(rest)) {
    }
    in_.erase(in_.begin(), in_.end() - static_cast<std::ptrdiff_t>(rest.size()));
  }

  bool take_reply(std::span<const std::byte>& rest) {
    SimpleReplyWire reply;
    if (rest.size() < sizeof reply) return false;
    std::memcpy(&reply, rest.data(), sizeof reply);
    const auto number = static_cast<std::size_t>(reply.cookie.get());
    if (reply.magic.get() != kSimpleReplyMagic || number >= kDepthMax) give_up("no simple reply");
    const Slot& slot = slots_[number];
    const bool failed = reply.error.get() != 0;
    std::size_t length = slot.command == Command::read && !failed ? slot.length : 0;
    if (rest.size() < sizeof reply + length) return false;
    if (failed && !slot.bad) give_up("an error that was not asked for");
    if (!failed) check(slot, rest.subspan(sizeof reply, length));
    rest = rest.subspan(sizeof reply + length);
    failed_ += failed ? 1 : 0;
    ++done_;
    free_.push_back(number);
    return true;
  }

  void check(const Slot& slot, std::span<const std::byte> bytes) const {
    if (slot.bad) return;
    for (std::size_t at = 0; at < bytes.size(); at += 8) {
      std::uint64_t word = 0;
      std::memcpy(&word, bytes.data() + at, 8);
      if (word != 0 && word != content(slot.offset + at)) give_up("read what nobody has written");
    }
  }

  const int socket_;
  const std::uint64_t size_;
  std::minstd_rand random_;
  const bool bad_;
  std::array<Slot, kDepthMax> slots_;
  std::vector<std::size_t> free_;
  std::vector<std::byte> out_;
  std::size_t sent_ = 0;
  std::vector<std::byte> in_;
  std::uint64_t begun_ = 0;
  std::uint64_t done_ = 0;
  std::uint64_t failed_ = 0;
};

}  // namespace
}  // namespace nbdkit

int main(int argc, char** argv) {
  if (argc < 5) return 2;
  auto number = [argv](int at) { return std::strtoull(argv[at], nullptr, 10); };
  nbdkit::Client client(static_cast<int>(number(1)), number(2), number(4), argc > 5);
  client.run(number(3));
  return 0;
}
