// SPDX-License-Identifier: BSD-3-Clause
#include "base/notify_socket.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cstring>
#include <thread>
#include <vector>

#include "base/unique_fd.h"

namespace nbdkit {
namespace {

// The manager's end, on an abstract name of this test's own.
class Manager {
 public:
  Manager() {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path + 1, name_.data() + 1, name_.size() - 1);
    socket_.reset(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    auto length = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name_.size());
    EXPECT_EQ(::bind(socket_.get(), reinterpret_cast<sockaddr*>(&address), length), 0);
  }
  const std::string& name() const { return name_; }

  std::string receive() {
    descriptors.clear();
    std::array<char, 4096> text;
    alignas(cmsghdr) std::array<char, 256> ancillary;
    iovec bytes{text.data(), text.size()};
    msghdr message{};
    message.msg_iov = &bytes;
    message.msg_iovlen = 1;
    message.msg_control = ancillary.data();
    message.msg_controllen = ancillary.size();
    ssize_t length = ::recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC);
    EXPECT_GE(length, 0);
    cmsghdr* header = CMSG_FIRSTHDR(&message);
    std::size_t count = header == nullptr ? 0 : (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
      descriptors.emplace_back(fd);
    }
    return std::string(text.data(), static_cast<std::size_t>(length));
  }

  std::vector<UniqueFd> descriptors;  // of the last message

 private:
  std::string name_ = fmt::format("@nbdkit-notify-test-{}", ::getpid());
  UniqueFd socket_;
};

struct NotifySocketTest : testing::Test {
  NotifySocket socket(const std::string& name) {
    ::setenv("NOTIFY_SOCKET", name.c_str(), 1);
    return NotifySocket::from_environment();
  }
  Manager manager;
};

TEST_F(NotifySocketTest, AMessageIsOneDatagram) {
  EXPECT_TRUE(socket(manager.name()).send("READY=1\nSTATUS=fine").ok());
  EXPECT_EQ(manager.receive(), "READY=1\nSTATUS=fine");
  EXPECT_TRUE(manager.descriptors.empty());
}

TEST_F(NotifySocketTest, DescriptorsComeWithTheirMessage) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  UniqueFd read(ends[0]);
  UniqueFd write(ends[1]);
  EXPECT_TRUE(socket(manager.name()).send("FDSTORE=1", ends).ok());
  EXPECT_EQ(manager.receive(), "FDSTORE=1");
  ASSERT_EQ(manager.descriptors.size(), 2u);
  EXPECT_EQ(::write(manager.descriptors[1].get(), "x", 1), 1);
  char byte = 0;
  EXPECT_EQ(::read(read.get(), &byte, 1), 1);
}

TEST_F(NotifySocketTest, TheEnvironmentIsTakenAway) {
  ::setenv("WATCHDOG_USEC", "2000000", 1);
  ::setenv("WATCHDOG_PID", fmt::format("{}", ::getpid()).c_str(), 1);
  ::setenv("FDSTORE", "0", 1);
  NotifySocket socket = this->socket(manager.name());
  for (const char* name : {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "FDSTORE"}) {
    EXPECT_EQ(::getenv(name), nullptr) << name;
  }
  EXPECT_EQ(socket.watchdog_limit(), Seconds(2));
  EXPECT_FALSE(socket.may_store());
}

TEST_F(NotifySocketTest, TheWatchdogOfAnotherProcessIsNotOurs) {
  ::setenv("WATCHDOG_USEC", "2000000", 1);
  ::setenv("WATCHDOG_PID", "1", 1);
  EXPECT_EQ(socket(manager.name()).watchdog_limit(), Nanoseconds(0));
}

TEST_F(NotifySocketTest, WithoutAManagerNothingHappens) {
  ::unsetenv("NOTIFY_SOCKET");
  NotifySocket none = NotifySocket::from_environment();
  EXPECT_FALSE(none);
  EXPECT_FALSE(none.may_store());
  EXPECT_TRUE(none.send("READY=1").ok());
  EXPECT_TRUE(none.barrier(Milliseconds(1)).ok());
}

TEST_F(NotifySocketTest, AnAddressOfAnotherFormIsAnError) {
  for (const std::string& name : {std::string("notify"), std::string("/"), std::string("@"),
                                  "/" + std::string(107, 'x'), "@" + std::string(108, 'x')}) {
    EXPECT_FALSE(socket(name).send("READY=1").ok()) << name;
  }
  EXPECT_FALSE(socket("/nonexistent/socket").send("READY=1").ok());
}

TEST_F(NotifySocketTest, TheBarrierWaitsUntilItsMessageIsTaken) {
  NotifySocket socket = this->socket(manager.name());
  EXPECT_TRUE(socket.send("STATUS=first").ok());
  std::thread taker([this] {
    EXPECT_EQ(manager.receive(), "STATUS=first");
    EXPECT_EQ(manager.receive(), "BARRIER=1");
    EXPECT_EQ(manager.descriptors.size(), 1u);
    manager.descriptors.clear();
  });
  EXPECT_TRUE(socket.barrier(Seconds(60)).ok());
  taker.join();
}

TEST_F(NotifySocketTest, TheBarrierGivesUp) {
  Result<void> result = socket(manager.name()).barrier(Milliseconds(10));
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, std::errc::timed_out);
}

}  // namespace
}  // namespace nbdkit
