// SPDX-License-Identifier: BSD-3-Clause
#include "attach/living_server.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "attach/keeper_identity.h"

namespace nbdkit {
namespace {

// A process with what we have open.
struct LivingServerTest : testing::Test {
  LivingServerTest() {
    memory.reset(::memfd_create("memory", MFD_CLOEXEC));
    EXPECT_EQ(::pwrite(memory.get(), "data", 4, 0), 4);
    int ends[2];
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    ours.reset(ends[0]);
    theirs.reset(ends[1]);
    child = ::fork();
    if (child == 0) {
      ::pause();
      ::_exit(0);
    }
    started = process_start_time(child);
  }
  ~LivingServerTest() override { end(); }
  void end() {
    if (child <= 0) return;
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    child = -1;
  }

  UniqueFd memory, ours, theirs;
  pid_t child = -1;
  std::uint64_t started = 0;
};

TEST_F(LivingServerTest, OnlyTheVeryProcessIsFound) {
  EXPECT_TRUE(LivingServer::find(child, started));
  EXPECT_FALSE(LivingServer::find(child, started + 1)) << "the number's next process";
  EXPECT_FALSE(LivingServer::find(child, 0));
  pid_t gone = child;
  end();
  EXPECT_FALSE(LivingServer::find(gone, started));
}

TEST_F(LivingServerTest, WhatItHoldsIsGivenBack) {
  HeldFile held = HeldFile::of(memory.get(), memory.get());
  std::uint64_t inode = socket_inode(theirs.get());
  EXPECT_EQ(socket_inode(memory.get()), 0u);
  memory.reset();
  theirs.reset();
  LivingServer server = std::move(*LivingServer::find(child, started));
  UniqueFd again = server.open(held, O_RDWR);
  char data[4];
  ASSERT_EQ(::pread(again.get(), data, sizeof data, 0), 4);
  EXPECT_EQ(std::string_view(data, 4), "data");
  EXPECT_TRUE(server.take(held));
  UniqueFd socket = std::move(server.take_socket(inode)).value();
  ASSERT_TRUE(socket);
  ASSERT_EQ(::write(socket.get(), "x", 1), 1);
  EXPECT_EQ(::read(ours.get(), data, 1), 1);
  EXPECT_FALSE(server.take_socket(1).value()) << "nobody's";
}

TEST_F(LivingServerTest, AnotherFileInItsPlaceIsNotTaken) {
  HeldFile held = HeldFile::of(memory.get(), memory.get());
  held.inode += 1;
  LivingServer server = std::move(*LivingServer::find(child, started));
  EXPECT_FALSE(server.open(held, O_RDWR));
  EXPECT_FALSE(server.take(held));
  HeldFile closed = HeldFile::of(memory.get(), 999);
  EXPECT_FALSE(server.open(closed, O_RDWR));
}

TEST_F(LivingServerTest, ADescriptionSurvivesTheFile) {
  HeldFile held = HeldFile::of(memory.get(), 9);
  Json json = to_json(held);
  std::optional<HeldFile> read = parse_held_file(&json);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->number, 9);
  EXPECT_TRUE(read->is_same_file(memory.get()));
  EXPECT_FALSE(read->is_same_file(ours.get()));
  json.set("inode", "7");
  EXPECT_FALSE(parse_held_file(&json));
  EXPECT_FALSE(parse_held_file(nullptr));
}

}  // namespace
}  // namespace nbdkit
