// SPDX-License-Identifier: BSD-3-Clause
#include "server/listener.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cstdlib>
#include <optional>
#include <vector>

#include "support/open_files.h"
#include "support/test_loop.h"

namespace nbdkit {
namespace {

class CountingLog final : public Log {
 public:
  CountingLog() : Log("test", true) {}
  void write(LogLevel level, std::string_view, std::string_view text) override {
    if (level != LogLevel::debug) errors.emplace_back(text);
  }
  std::vector<std::string> errors;
};

struct ListenerTest : testing::Test {
  ListenerTest() { EXPECT_NE(::mkdtemp(folder.data()), nullptr); }
  ~ListenerTest() override {
    ::unlink(path().c_str());
    ::rmdir(folder.c_str());
  }
  std::string path() const { return folder + "/socket"; }

  UniqueFd connect_unix() {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path().copy(address.sun_path, sizeof address.sun_path - 1);
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) fd.reset();
    return fd;
  }

  static UniqueFd connect_tcp(std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) fd.reset();
    return fd;
  }

  static Result<TcpSockets> listen_loopback(std::string port, Log& log) {
    return listen_tcp({"127.0.0.1", std::move(port), TcpAddress::Family::any}, log);
  }

  // Turns the loop until as many connections have been accepted.
  void accept(Listener& listener, std::size_t count) {
    ASSERT_TRUE(listener.start().ok());
    wanted = count;
    static_cast<Loop&>(loop).run();
  }
  Listener::Accepted keep() {
    return [this](UniqueFd connection) {
      accepted.push_back(std::move(connection));
      if (accepted.size() == wanted) loop.stop();
    };
  }

  // Nobody can be accepted for ten times the pause, and then one is.
  void accept_after_shortage() {
    class Relief final : public Timer {
     public:
      void begin() { shortage_.emplace(0); }

     private:
      void expired() noexcept override { shortage_.reset(); }
      std::optional<DescriptorShortage> shortage_;
    };
    UniqueFd client = connect_unix();
    Relief relief;
    loop.timers().arm(relief, loop.now() + 10 * Listener::kPause);
    relief.begin();
    wanted = accepted.size() + 1;
    static_cast<Loop&>(loop).run();
  }

  int option(int fd, int level, int name) {
    int value = 0;
    socklen_t length = sizeof value;
    EXPECT_EQ(::getsockopt(fd, level, name, &value, &length), 0);
    return value;
  }

  TestLoop loop;
  CountingLog log;
  std::string folder = "/tmp/listener_testXXXXXX";
  std::vector<UniqueFd> accepted;
  std::size_t wanted = 0;
};

TEST_F(ListenerTest, UnixClientsAreAcceptedWithALargeSendBuffer) {
  Listener listener(loop, log, listen_unix(path()).value(), keep());
  UniqueFd one = connect_unix();
  UniqueFd two = connect_unix();
  accept(listener, 2);
  ASSERT_EQ(accepted.size(), 2u);
  EXPECT_EQ(::fcntl(accepted[0].get(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
  EXPECT_GT(option(accepted[0].get(), SOL_SOCKET, SO_SNDBUF),
            option(one.get(), SOL_SOCKET, SO_SNDBUF));
}

TEST_F(ListenerTest, TheUmaskDecidesWhoMayConnect) {
  mode_t before = ::umask(0022);
  UniqueFd socket = listen_unix(path()).value();
  ::umask(before);
  struct stat status {};
  ASSERT_EQ(::stat(path().c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0755u);
}

TEST_F(ListenerTest, AUnixPathThatExistsIsLeftAlone) {
  UniqueFd socket = listen_unix(path()).value();
  Result<UniqueFd> second = listen_unix(path());
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, std::errc::address_in_use);
  EXPECT_NE(second.error().message().find(path() + ": Address already in use (remove"),
            std::string::npos);
  EXPECT_TRUE(connect_unix());
}

TEST_F(ListenerTest, AUnixPathIsAtMost107Bytes) {
  EXPECT_EQ(listen_unix("/tmp/" + std::string(103, 'x')).error().code,
            std::errc::filename_too_long);
  EXPECT_NE(listen_unix("/tmp/no/such/folder/socket").error().message().find("No such file"),
            std::string::npos);
}

TEST_F(ListenerTest, TcpClientsAreAcceptedWithoutDelay) {
  TcpSockets sockets = listen_loopback("0", log).value();
  ASSERT_EQ(sockets.sockets.size(), 1u);
  Listener listener(loop, log, std::move(sockets.sockets[0]), keep());
  UniqueFd client = connect_tcp(sockets.port);
  ASSERT_TRUE(client);
  accept(listener, 1);
  EXPECT_EQ(option(accepted.at(0).get(), IPPROTO_TCP, TCP_NODELAY), 1);
}

TEST_F(ListenerTest, EveryAddressHasTheSamePortWhenTheKernelChooses) {
  TcpSockets sockets = listen_tcp({"", "0", TcpAddress::Family::any}, log).value();
  EXPECT_NE(sockets.port, 0);
  for (const UniqueFd& socket : sockets.sockets) {
    sockaddr_in6 address{};  // The port is at the same place in both kinds.
    socklen_t length = sizeof address;
    ASSERT_EQ(::getsockname(socket.get(), reinterpret_cast<sockaddr*>(&address), &length), 0);
    EXPECT_EQ(ntohs(address.sin6_port), sockets.port);
  }
}

TEST_F(ListenerTest, OneFamilyAloneIsOneKindOfSocket) {
  TcpSockets four = listen_tcp({"", "0", TcpAddress::Family::ipv4}, log).value();
  ASSERT_EQ(four.sockets.size(), 1u);
  EXPECT_EQ(option(four.sockets[0].get(), SOL_SOCKET, SO_DOMAIN), AF_INET);
  TcpSockets six = listen_tcp({"", "0", TcpAddress::Family::ipv6}, log).value();
  ASSERT_EQ(six.sockets.size(), 1u);
  EXPECT_EQ(option(six.sockets[0].get(), SOL_SOCKET, SO_DOMAIN), AF_INET6);
  EXPECT_EQ(option(six.sockets[0].get(), IPPROTO_IPV6, IPV6_V6ONLY), 1);
}

TEST_F(ListenerTest, AnAddressInUseIsPassedOverWhileAnotherIsFree) {
  TcpSockets four = listen_tcp({"", "0", TcpAddress::Family::ipv4}, log).value();
  std::string port = std::to_string(four.port);
  Result<TcpSockets> both = listen_tcp({"", port, TcpAddress::Family::any}, log);
  ASSERT_TRUE(both.ok()) << both.error().message();
  ASSERT_EQ(both.value().sockets.size(), 1u);
  EXPECT_EQ(option(both.value().sockets[0].get(), SOL_SOCKET, SO_DOMAIN), AF_INET6);
  Result<TcpSockets> neither = listen_tcp({"", port, TcpAddress::Family::any}, log);
  ASSERT_FALSE(neither.ok());
  EXPECT_NE(neither.error().message().find("Address already in use"), std::string::npos);
  EXPECT_NE(neither.error().message().find(port), std::string::npos);
}

TEST_F(ListenerTest, WhatIsNoAddressOfThisMachineIsSaidSo) {
  Result<TcpSockets> foreign = listen_tcp({"192.0.2.1", "0", TcpAddress::Family::any}, log);
  ASSERT_FALSE(foreign.ok());
  EXPECT_NE(foreign.error().message().find("no address of this machine"), std::string::npos);
  Result<TcpSockets> service = listen_tcp({"", "no-such-service", TcpAddress::Family::any}, log);
  ASSERT_FALSE(service.ok());
  EXPECT_NE(service.error().message().find("'no-such-service'"), std::string::npos);
}

// The kernel goes on saying that somebody waits. The clock of this loop jumps to the next timer as
// soon as nothing can happen: busy waiting would hang the test.
TEST_F(ListenerTest, WithoutDescriptorsItWaitsAndThenGoesOn) {
  Listener listener(loop, log, listen_unix(path()).value(), keep());
  ASSERT_TRUE(listener.start().ok());
  accept_after_shortage();
  EXPECT_EQ(accepted.size(), 1u);
  EXPECT_GE(loop.elapsed(), 10 * Listener::kPause);
  ASSERT_EQ(log.errors.size(), 1u) << "said once, not at every try";
  EXPECT_NE(log.errors[0].find("Too many open files"), std::string::npos);
}

TEST_F(ListenerTest, AShortageThatComesAndGoesIsNotSaidEveryTime) {
  Listener listener(loop, log, listen_unix(path()).value(), keep());
  ASSERT_TRUE(listener.start().ok());
  for (int i = 0; i < 5; ++i) accept_after_shortage();
  EXPECT_EQ(log.errors.size(), 1u);
  Gate gate(loop);
  EXPECT_TRUE(loop.run(loop.sleep(Listener::kComplaintInterval, gate)).ok());
  accept_after_shortage();
  EXPECT_EQ(log.errors.size(), 2u);
}

TEST_F(ListenerTest, StoppedItRefusesClients) {
  Listener listener(loop, log, listen_unix(path()).value(), keep());
  ASSERT_TRUE(listener.start().ok());
  listener.stop();
  EXPECT_FALSE(connect_unix());
}

}  // namespace
}  // namespace nbdkit
