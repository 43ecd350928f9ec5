// SPDX-License-Identifier: BSD-3-Clause
#include "attach/keeper_log.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "attach/keeper_identity.h"

namespace nbdkit {
namespace {

// The system's log, as a machine's /dev/log.
struct KeeperLogTest : testing::Test {
  KeeperLogTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "log.XXXXXX").string();
    folder = ::mkdtemp(pattern.data());
    path = (folder / "log").string();
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strcpy(address.sun_path, path.c_str());
    system.reset(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::bind(system.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  }
  ~KeeperLogTest() override { std::filesystem::remove_all(folder); }

  std::string next() {
    std::array<char, 4096> buffer;
    ssize_t length = ::recv(system.get(), buffer.data(), buffer.size(), MSG_DONTWAIT);
    return length < 0 ? "nothing" : std::string(buffer.data(), static_cast<std::size_t>(length));
  }

  std::filesystem::path folder;
  std::string path;
  UniqueFd system;
};

TEST_F(KeeperLogTest, InTheBackgroundTheSystemsLogIsTold) {
  KeeperLog log(true);
  log.leave_terminal(path);
  std::string who = "nbdkit-attach[" + std::to_string(::getpid()) + "]: ";
  log.error("", "the server {}", "ended");
  EXPECT_EQ(next(), "<27>" + who + "the server ended");
  log.warning("keeper", "slow");
  EXPECT_EQ(next(), "<28>" + who + "keeper: slow");
  log.server_line("nbdkit: file.1: error: pread: Input/output error");
  EXPECT_EQ(next(), "<27>" + who + "nbdkit: file.1: error: pread: Input/output error");
}

TEST_F(KeeperLogTest, DebugMessagesStayBehind) {
  KeeperLog log(true);
  log.leave_terminal(path);
  log.debug("", "step");
  log.server_line("nbdkit: file.1: debug: pread count=512 offset=0");
  EXPECT_EQ(next(), "nothing");
}

TEST_F(KeeperLogTest, AFullSystemLogIsNotWaitedFor) {
  KeeperLog log(false);
  log.leave_terminal(path);
  for (int i = 0; i < 100'000; ++i) log.error("", "line {}", i);
  EXPECT_NE(next(), "nothing");
}

TEST_F(KeeperLogTest, WithoutASystemLogNothingHappens) {
  KeeperLog log(false);
  log.leave_terminal((folder / "absent").string());
  log.error("", "nobody hears");
}

TEST(KeeperIdentityTest, ProcessesAreToldApart) {
  EXPECT_GT(process_start_time(::getpid()), 0u);
  EXPECT_EQ(process_start_time(-1), 0u);
  EXPECT_EQ(boot_id().size(), 36u);
}

TEST_F(KeeperLogTest, TheLastLinesAreKeptWhetherSomebodyHearsThemOrNot) {
  KeeperLog log(true);
  log.leave_terminal("/nobody/listens/here");
  log.debug("", "a step");
  log.server_line("nbdkit: debug: a step");
  log.error("", "the server {}", "ended");
  log.server_line("nbdkit: error: no");
  std::vector<std::string> recent = log.recent();
  ASSERT_EQ(recent.size(), 2u);
  EXPECT_TRUE(recent[0].ends_with("Z the server ended")) << recent[0];
  EXPECT_TRUE(recent[1].ends_with("Z nbdkit: error: no")) << recent[1];
  for (std::size_t i = 0; i < KeeperLog::kLinesMax; ++i) log.warning("", "line {}", i);
  log.warning("", "{}", std::string(10'000, 'x'));
  recent = log.recent();
  EXPECT_EQ(recent.size(), KeeperLog::kLinesMax);
  EXPECT_TRUE(recent.front().ends_with(" line 1")) << recent.front();
  EXPECT_LT(recent.back().size(), KeeperLog::kKeptMax + 40);
}

}  // namespace
}  // namespace nbdkit
