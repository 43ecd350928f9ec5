// SPDX-License-Identifier: BSD-3-Clause
#include "handoff/descriptor_rules.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/unique_fd.h"
#include "support/open_files.h"
#include "support/socket_pair.h"

namespace nbdkit {
namespace {

void expect_refused(int fd, std::string_view what) {
  Result<void> checked = check_stream_socket(fd);
  ASSERT_FALSE(checked.ok());
  EXPECT_EQ(checked.error().message(),
            "the descriptor is " + std::string(what) + "; a connected stream socket is needed");
}

UniqueFd listening(int family) {
  UniqueFd socket(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  // Only a family: the kernel chooses the name. For IP no bind is needed.
  sockaddr_un any{};
  any.sun_family = AF_UNIX;
  if (family == AF_UNIX) {
    EXPECT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&any), sizeof any.sun_family), 0);
  }
  EXPECT_EQ(::listen(socket.get(), 1), 0);
  return socket;
}

TEST(DescriptorRules, ConnectedStreamSocketsAreTaken) {
  SocketPair pair(SOCK_STREAM);
  EXPECT_TRUE(check_stream_socket(pair.ours.get()).ok());
  for (int family : {AF_INET, AF_INET6}) {
    UniqueFd server = listening(family);
    sockaddr_storage address;
    socklen_t length = sizeof address;
    ASSERT_EQ(::getsockname(server.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
    if (family == AF_INET) {
      reinterpret_cast<sockaddr_in&>(address).sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    } else {
      reinterpret_cast<sockaddr_in6&>(address).sin6_addr = in6addr_loopback;
    }
    UniqueFd client(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(::connect(client.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
    UniqueFd accepted(::accept4(server.get(), nullptr, nullptr, SOCK_CLOEXEC));
    EXPECT_TRUE(check_stream_socket(client.get()).ok());
    EXPECT_TRUE(check_stream_socket(accepted.get()).ok());
  }
}

TEST(DescriptorRules, OneWithDataOrHalfClosedIsTaken) {
  SocketPair pair(SOCK_STREAM);
  ASSERT_EQ(::send(pair.theirs.get(), "x", 1, 0), 1);
  EXPECT_TRUE(check_stream_socket(pair.ours.get()).ok());
  ::shutdown(pair.theirs.get(), SHUT_WR);
  EXPECT_TRUE(check_stream_socket(pair.ours.get()).ok()) << "it still listens to the answer";
}

TEST(DescriptorRules, EverythingElseIsNamed) {
  SocketPair packets(SOCK_SEQPACKET);
  expect_refused(packets.ours.get(), "a seqpacket socket (Unix)");
  SocketPair datagrams(SOCK_DGRAM);
  expect_refused(datagrams.ours.get(), "a datagram socket (Unix)");
  UniqueFd udp(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  expect_refused(udp.get(), "a datagram socket (IPv4)");
  expect_refused(listening(AF_UNIX).get(), "a listening socket (Unix)");
  expect_refused(listening(AF_INET).get(), "a listening socket (IPv4)");
  UniqueFd alone(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  expect_refused(alone.get(), "an unconnected socket (IPv6)");
  UniqueFd file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
  expect_refused(file.get(), "not a socket");
  std::array<int, 2> pipe;
  ASSERT_EQ(::pipe2(pipe.data(), O_CLOEXEC), 0);
  UniqueFd reader(pipe[0]);
  UniqueFd writer(pipe[1]);
  expect_refused(reader.get(), "not a socket");
  UniqueFd path(::open("/", O_PATH | O_CLOEXEC));
  expect_refused(path.get(), "not an open socket");
  expect_refused(12345, "not an open socket");
  SocketPair left(SOCK_STREAM);
  left.theirs.reset();
  expect_refused(left.ours.get(), "a socket (Unix) whose other end is gone");
}

}  // namespace
}  // namespace nbdkit
