// SPDX-License-Identifier: BSD-3-Clause
#include "async/closer.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <utility>

#include "support/socket_pair.h"

namespace nbdkit {
namespace {

constexpr int kPatienceMs = 30'000;

// Waits for the other end to go.
bool ends(int fd) {
  pollfd state{fd, POLLIN, 0};
  char byte;
  return ::poll(&state, 1, kPatienceMs) == 1 && ::recv(fd, &byte, 1, 0) == 0;
}

TEST(Closer, WhatItIsGivenIsClosed) {
  Closer closer;
  for (int round = 0; round < 100; ++round) {
    SocketPair pair;
    closer.close(std::move(pair.ours));
    ASSERT_TRUE(ends(pair.theirs.get()));
  }
  closer.close(UniqueFd());
}

// A TCP socket that lingers in close() because its peer takes nothing of what was sent.
TEST(Closer, OneThatBlocksIsWaitedForByNobody) {
  UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  sockaddr_in address{};
  socklen_t length = sizeof address;
  auto* name = reinterpret_cast<sockaddr*>(&address);
  ASSERT_EQ(::getsockname(listener.get(), name, &length), 0);
  UniqueFd ours(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::connect(ours.get(), name, length), 0);
  UniqueFd theirs(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  linger patience{1, 3600};
  ASSERT_EQ(::setsockopt(ours.get(), SOL_SOCKET, SO_LINGER, &patience, sizeof patience), 0);
  std::array<char, 65536> data{};
  while (::send(ours.get(), data.data(), data.size(), MSG_DONTWAIT) > 0) {
  }
  SocketPair pair;
  {
    Closer closer;
    closer.close(std::move(ours));
  }
  Closer other;
  other.close(std::move(pair.ours));
  EXPECT_TRUE(ends(pair.theirs.get()));
}

}  // namespace
}  // namespace nbdkit
