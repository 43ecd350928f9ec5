// SPDX-License-Identifier: BSD-3-Clause
#include "server/stdio_relay.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <string>
#include <thread>

#include "support/test_loop.h"

namespace nbdkit {
namespace {

struct Ends {
  UniqueFd read;
  UniqueFd write;
};

Ends make_pipe() {
  int ends[2];
  EXPECT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  return {UniqueFd(ends[0]), UniqueFd(ends[1])};
}

void write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    ssize_t count = ::write(fd, text.data(), text.size());
    ASSERT_GT(count, 0);
    text.remove_prefix(static_cast<std::size_t>(count));
  }
}

std::string read_all(int fd) {
  std::string text;
  char buffer[65536];
  for (ssize_t count; (count = ::read(fd, buffer, sizeof buffer)) > 0;) {
    text.append(buffer, static_cast<std::size_t>(count));
  }
  return text;
}

struct StdioRelayTest : testing::Test {
  class Ended final : public Job {
   public:
    explicit Ended(Loop& loop) : loop_(loop) {}
    void run() noexcept override { loop_.stop(); }

   private:
    Loop& loop_;
  };

  // Returns when the relay has told the loop its end.
  void wait_for_end() { static_cast<Loop&>(loop).run(); }

  TestLoop loop;
  Ended ended{loop};
  Ends in = make_pipe();
  Ends out = make_pipe();
};

TEST_F(StdioRelayTest, BytesPassBothWaysUnchanged) {
  std::string question(300'000, '\0');
  for (std::size_t i = 0; i < question.size(); ++i) question[i] = static_cast<char>(i * 7 / 3);
  StdioRelay relay(std::move(in.read), std::move(out.write));
  UniqueFd socket = relay.start(loop, ended).value();
  std::thread client([&] {
    write_all(in.write.get(), question);
    in.write.reset();
  });
  std::thread engine([&] {
    std::string heard = read_all(socket.get());
    write_all(socket.get(), heard);
    socket.reset();
  });
  EXPECT_EQ(read_all(out.read.get()), question);
  client.join();
  engine.join();
  wait_for_end();
}

// The engine would wait for the client's next word for ever.
TEST_F(StdioRelayTest, TheEndOfTheInputReachesTheEngineAfterTheLastByte) {
  StdioRelay relay(std::move(in.read), std::move(out.write));
  UniqueFd socket = relay.start(loop, ended).value();
  write_all(in.write.get(), "last words");
  in.write.reset();
  EXPECT_EQ(read_all(socket.get()), "last words");
  socket.reset();
  wait_for_end();
}

TEST_F(StdioRelayTest, WhatTheEngineSaidLastIsPassedOnBeforeTheEnd) {
  StdioRelay relay(std::move(in.read), std::move(out.write));
  UniqueFd socket = relay.start(loop, ended).value();
  write_all(socket.get(), "good bye");
  socket.reset();
  EXPECT_EQ(read_all(out.read.get()), "good bye");
  wait_for_end();
}

TEST_F(StdioRelayTest, AClientThatCannotBeAnsweredIsGone) {
  ::signal(SIGPIPE, SIG_IGN);
  StdioRelay relay(std::move(in.read), std::move(out.write));
  UniqueFd socket = relay.start(loop, ended).value();
  out.read.reset();
  write_all(socket.get(), "anybody there?");
  EXPECT_EQ(read_all(socket.get()), "");
  socket.reset();
  wait_for_end();
}

TEST_F(StdioRelayTest, FilesWillDo) {
  UniqueFd file(::open("/tmp", O_TMPFILE | O_RDWR, 0600));
  ASSERT_TRUE(file);
  write_all(file.get(), "from a file");
  ASSERT_EQ(::lseek(file.get(), 0, SEEK_SET), 0);
  StdioRelay relay(std::move(file), std::move(out.write));
  UniqueFd socket = relay.start(loop, ended).value();
  EXPECT_EQ(read_all(socket.get()), "from a file");
  socket.reset();
  wait_for_end();
}

TEST(IsOneSocket, OnlyTheSameStreamSocketTwiceIs) {
  int stream[2], datagram[2], other[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, stream), 0);
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, other), 0);
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, datagram), 0);
  UniqueFd copy(::dup(stream[0]));
  EXPECT_TRUE(is_one_socket(stream[0], copy.get()));
  EXPECT_FALSE(is_one_socket(stream[0], other[0]));
  EXPECT_FALSE(is_one_socket(datagram[0], datagram[0]));
  EXPECT_FALSE(is_one_socket(0, 0));
  UniqueFd listening(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::listen(listening.get(), 1), 0);
  EXPECT_FALSE(is_one_socket(listening.get(), listening.get()));
  for (int fd : {stream[0], stream[1], other[0], other[1], datagram[0], datagram[1]}) ::close(fd);
}

}  // namespace
}  // namespace nbdkit
