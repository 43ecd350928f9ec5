// SPDX-License-Identifier: BSD-3-Clause
#include "attach/server_lock.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

namespace nbdkit {
namespace {

struct ServerLockTest : testing::Test {
  ServerLockTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "lock.XXXXXX").string();
    path = ::mkdtemp(pattern.data());
    folder.emplace(std::move(RunFolder::open(path.string())).value());
  }
  ~ServerLockTest() override { std::filesystem::remove_all(path); }

  std::filesystem::path path;
  std::optional<RunFolder> folder;
};

// Its child, in a session of its own, holds the lock; the parent has ended.
void start_orphan(int lock) {
  pid_t parent = ::fork();
  if (parent == 0) {
    if (::fork() == 0) {
      ::setsid();
      ::pause();
    }
    ::_exit(0);
  }
  ::waitpid(parent, nullptr, 0);
  ASSERT_GE(lock, 0);
}

TEST_F(ServerLockTest, ItIsHeldUntilTheLastProcessHasEnded) {
  ServerLock lock = std::move(ServerLock::create(*folder)).value();
  ASSERT_TRUE(lock.name(*folder, 3).ok());
  UniqueFd taken = std::move(lock.take()).value();
  EXPECT_FALSE(lock.take().ok());
  start_orphan(taken.get());
  taken.reset();
  EXPECT_FALSE(lock.take().ok()) << "an orphan has it";

  std::optional<ServerLock> other;
  ASSERT_TRUE(ServerLock::open(*folder, 3, other).ok());
  Result<std::vector<pid_t>> left = other->end_holders(Seconds(30));
  ASSERT_TRUE(left.ok()) << left.error().message();
  EXPECT_TRUE(left.value().empty());
  EXPECT_TRUE(other->take().ok());
  EXPECT_TRUE(lock.take().ok());
}

TEST_F(ServerLockTest, UntilItIsNamedNothingIsSeenOfIt) {
  ServerLock lock = std::move(ServerLock::create(*folder)).value();
  EXPECT_TRUE(std::filesystem::is_empty(path));
  UniqueFd taken = std::move(lock.take()).value();
  ASSERT_TRUE(lock.name(*folder, 3).ok());
  EXPECT_TRUE(std::filesystem::exists(path / "nbd3.server"));
  ServerLock next = std::move(ServerLock::create(*folder)).value();
  EXPECT_TRUE(next.name(*folder, 3).ok()) << "a dead one's is replaced";
  EXPECT_TRUE(next.name(*folder, 3).ok()) << "once more is no harm";
  EXPECT_TRUE(next.take().ok());
  std::optional<ServerLock> named;
  EXPECT_TRUE(ServerLock::open(*folder, 3, named).ok());
  folder->remove_state(3);
  EXPECT_TRUE(std::filesystem::is_empty(path));
}

}  // namespace
}  // namespace nbdkit
