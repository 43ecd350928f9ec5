// SPDX-License-Identifier: BSD-3-Clause
#include "attach/scan_shield.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <cstring>
#include <vector>

#include "base/unique_fd.h"
#include "proto/errors.h"
#include "proto/transmission.h"
#include "support/real_loop.h"

namespace nbdkit {
namespace {

constexpr std::size_t kHead = sizeof(SimpleReplyWire);

struct ScanShieldTest : testing::Test {
  void SetUp() override {
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    kernel.reset(ends[0]);
    server.reset(ends[1]);
    ASSERT_TRUE(shield.answer(server.get()).ok());
  }

  void ask(Command command, std::uint64_t length, std::uint64_t cookie) {
    RequestWire wire = to_wire({command, 0, Cookie{cookie}, 0, length});
    send(&wire, sizeof(wire));
  }
  void send(const void* bytes, std::size_t length) {
    ASSERT_EQ(::send(kernel.get(), bytes, length, 0), static_cast<ssize_t>(length));
  }
  // What the kernel gets, once it is all there.
  std::vector<std::byte> receive(std::size_t length) {
    std::vector<std::byte> bytes(length);
    std::size_t have = 0;
    while (have < length) {
      ssize_t got = ::recv(kernel.get(), bytes.data() + have, length - have, MSG_DONTWAIT);
      if (got > 0) have += static_cast<std::size_t>(got);
      if (got < 0) run_for(Milliseconds(1));
      if (got == 0) break;
    }
    return bytes;
  }
  SimpleReplyWire receive_reply() {
    SimpleReplyWire reply;
    std::vector<std::byte> bytes = receive(kHead);
    std::memcpy(&reply, bytes.data(), kHead);
    return reply;
  }
  void run_for(Milliseconds time) {
    EXPECT_TRUE(loop.run([&] { return loop.sleep(time, gate); }).ok());
  }
  void begin_end() {
    finish(shield.end(gate), [&](Result<void> done) { ended = done.ok(); });
  }

  RealLoop loop;
  Gate gate{loop};
  UniqueFd kernel;
  UniqueFd server;
  ScanShield shield{loop};
  bool ended = false;
};

TEST_F(ScanShieldTest, ReadsGetZeroes) {
  constexpr std::size_t kLength = 1 << 20;  // more than a socket takes at once
  ask(Command::read, kLength, 7);
  ask(Command::read, 512, 8);
  SimpleReplyWire reply = receive_reply();
  EXPECT_EQ(reply.error.get(), 0u);
  EXPECT_EQ(reply.cookie.get(), Cookie{7});
  EXPECT_EQ(receive(kLength), std::vector<std::byte>(kLength));
  EXPECT_EQ(receive_reply().cookie.get(), Cookie{8});
  EXPECT_EQ(receive(512), std::vector<std::byte>(512));
}

TEST_F(ScanShieldTest, NothingCanBeWritten) {
  std::vector<std::byte> data(200'000, std::byte{1});
  ask(Command::write, data.size(), 1);
  send(data.data(), data.size());
  ask(Command::flush, 0, 2);
  for (std::uint64_t cookie : {1, 2}) {
    SimpleReplyWire reply = receive_reply();
    EXPECT_EQ(reply.error.get(), static_cast<std::uint32_t>(NbdError::io));
    EXPECT_EQ(reply.cookie.get(), Cookie{cookie});
  }
}

TEST_F(ScanShieldTest, ItEndsBetweenTwoRequests) {
  std::array<std::byte, 512> half{};
  ask(Command::write, 2 * half.size(), 1);
  send(half.data(), half.size());
  run_for(Milliseconds(5));
  begin_end();
  run_for(Milliseconds(20));
  EXPECT_FALSE(ended);
  send(half.data(), half.size());
  EXPECT_EQ(receive_reply().cookie.get(), Cookie{1});
  while (!ended) run_for(Milliseconds(1));
  ask(Command::read, 512, 2);
  run_for(Milliseconds(20));
  std::array<std::byte, 100> rest;
  EXPECT_EQ(::recv(kernel.get(), rest.data(), rest.size(), MSG_DONTWAIT), -1);
  EXPECT_EQ(::recv(server.get(), rest.data(), rest.size(), MSG_DONTWAIT),
            static_cast<ssize_t>(sizeof(RequestWire)));
}

TEST_F(ScanShieldTest, AConnectionThatIsGoneNeedsNoEnd) {
  ask(Command::write, 1024, 1);
  kernel.reset();
  begin_end();
  while (!ended) run_for(Milliseconds(1));
}

}  // namespace
}  // namespace nbdkit
