// SPDX-License-Identifier: BSD-3-Clause
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "fixture_test.h"

namespace nbdkit {
namespace {

class ConnectTest : public HandoffLibraryTest {
 protected:
  ConnectTest() {
    EXPECT_NE(::mkdtemp(folder.data()), nullptr);
    path = folder + "/socket";
  }
  ~ConnectTest() override { std::filesystem::remove_all(folder); }

  UniqueFd listen_at(int type, int backlog) {
    UniqueFd fd(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    EXPECT_EQ(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(fd.get(), backlog), 0);
    return fd;
  }

  std::string folder = std::filesystem::temp_directory_path() / "nbdkit-handoff-XXXXXX";
  std::string path;
};

TEST_F(ConnectTest, APathIsConnectedTo) {
  UniqueFd listener = listen_at(SOCK_SEQPACKET, 1);
  handle.reset(nbdkit_handoff_connect(path.c_str(), -1));
  ASSERT_NE(handle, nullptr) << nbdkit_handoff_error();
  peer.emplace(UniqueFd(::accept(listener.get(), nullptr, nullptr)));
  say(kAnswer, 1, kExportBody);
  EXPECT_NE(query(), nullptr) << nbdkit_handoff_error();
}

TEST_F(ConnectTest, WhatCannotBeConnectedToIsNamed) {
  EXPECT_EQ(nbdkit_handoff_connect(path.c_str(), -1), nullptr);
  expect_error(NBDKIT_HANDOFF_E_SYSTEM, path + ": No such file");
  UniqueFd stream = listen_at(SOCK_STREAM, 1);
  EXPECT_EQ(nbdkit_handoff_connect(path.c_str(), -1), nullptr);
  expect_error(NBDKIT_HANDOFF_E_SYSTEM, path + ": Protocol wrong type");
  for (std::string wrong : {std::string(), std::string(108, 'x')}) {
    EXPECT_EQ(nbdkit_handoff_connect(wrong.c_str(), -1), nullptr);
    expect_error(NBDKIT_HANDOFF_E_INVALID, "1 to 107 bytes");
  }
  EXPECT_EQ(nbdkit_handoff_connect(nullptr, -1), nullptr);
}

TEST_F(ConnectTest, AServerThatDoesNotAcceptIsNotWaitedForLongerThanSaid) {
  UniqueFd listener = listen_at(SOCK_SEQPACKET, 0);
  Handle first(nbdkit_handoff_connect(path.c_str(), -1));
  ASSERT_NE(first, nullptr);
  for (int timeout_ms : {0, 20}) {
    EXPECT_EQ(nbdkit_handoff_connect(path.c_str(), timeout_ms), nullptr);
    expect_error(NBDKIT_HANDOFF_E_NO_ANSWER, "does not accept in time");
  }
}

TEST_F(ConnectTest, OnlyControlSocketsAreAdopted) {
  std::array<int, 2> ends;
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
  UniqueFd one(ends[0]), other(ends[1]);
  UniqueFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  UniqueFd listener = listen_at(SOCK_SEQPACKET, 1);
  for (int fd : {one.get(), null.get(), listener.get(), -1, 1'000'000}) {
    EXPECT_EQ(nbdkit_handoff_adopt(fd), nullptr);
    expect_error(NBDKIT_HANDOFF_E_INVALID, "descriptor " + std::to_string(fd) + " is no");
  }
  // They are still the caller's.
  EXPECT_GE(::fcntl(one.get(), F_GETFD), 0);
  EXPECT_GE(::fcntl(listener.get(), F_GETFD), 0);
}

}  // namespace
}  // namespace nbdkit
