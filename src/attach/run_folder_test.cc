// SPDX-License-Identifier: BSD-3-Clause
#include "attach/run_folder.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "netlink/exit_code.h"

namespace nbdkit {
namespace {

struct RunFolderTest : testing::Test {
  RunFolderTest() {
    std::string pattern = (std::filesystem::temp_directory_path() / "run.XXXXXX").string();
    base = ::mkdtemp(pattern.data());
    path = base / "nbdkit";
  }
  ~RunFolderTest() override { std::filesystem::remove_all(base); }
  RunFolder open() { return std::move(RunFolder::open(path.string())).value(); }

  std::filesystem::path base, path;
};

TEST_F(RunFolderTest, ItIsMadeForItsOwnerAlone) {
  open();
  struct stat status;
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0700u);
}

TEST_F(RunFolderTest, OneThatOthersMayWriteToIsRefused) {
  std::filesystem::create_directory(path);
  ::chmod(path.c_str(), 0777);
  Result<RunFolder> folder = RunFolder::open(path.string());
  ASSERT_FALSE(folder.ok());
  EXPECT_EQ(exit_code_of(folder.error()), ExitCode::not_permitted);
}

TEST_F(RunFolderTest, ALinkInItsPlaceIsRefused) {
  std::filesystem::create_directory(base / "elsewhere");
  std::filesystem::create_directory_symlink(base / "elsewhere", path);
  EXPECT_FALSE(RunFolder::open(path.string()).ok());
}

TEST_F(RunFolderTest, ADeviceHasOneHolder) {
  RunFolder folder = open();
  Result<UniqueFd> first = folder.lock(0);
  ASSERT_TRUE(first.ok());
  Result<UniqueFd> second = folder.lock(0);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(exit_code_of(second.error()), ExitCode::busy);
  EXPECT_TRUE(folder.lock(1).ok());
  folder.remove_lock(0);
  first.value().reset();
  EXPECT_TRUE(folder.lock(0).ok());
}

// Otherwise two could hold "the" lock: one of the old file, one of the new.
TEST_F(RunFolderTest, ALockWhoseFileWasRemovedIsNotTaken) {
  RunFolder folder = open();
  UniqueFd old = std::move(folder.lock(0)).value();
  folder.remove_lock(0);
  UniqueFd fresh = std::move(folder.lock(0)).value();
  old.reset();
  EXPECT_FALSE(folder.lock(0).ok());
}

TEST_F(RunFolderTest, StateIsReadBackAndPrivate) {
  RunFolder folder = open();
  ASSERT_TRUE(folder.write_state(3, "one").ok());
  ASSERT_TRUE(folder.write_state(3, "two").ok());
  EXPECT_EQ(folder.read_state(3).value(), "two");
  struct stat status;
  ASSERT_EQ(::stat((path / "nbd3.json").c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777, 0600u);
  folder.remove_state(3);
  EXPECT_TRUE(std::filesystem::is_empty(path));
}

TEST_F(RunFolderTest, AStateFileThatIsALinkIsNotFollowed) {
  RunFolder folder = open();
  std::ofstream(base / "victim") << "precious";
  std::filesystem::create_symlink(base / "victim", path / "nbd0.json");
  EXPECT_FALSE(folder.read_state(0).ok());
  ASSERT_TRUE(folder.write_state(0, "state").ok());
  EXPECT_EQ(folder.read_state(0).value(), "state");
  std::string text;
  std::getline(std::ifstream(base / "victim"), text);
  EXPECT_EQ(text, "precious");
}

TEST_F(RunFolderTest, AStateFileThatIsTooLargeIsRefused) {
  RunFolder folder = open();
  ASSERT_TRUE(folder.write_state(0, std::string(RunFolder::kFileMax + 1, 'x')).ok());
  EXPECT_FALSE(folder.read_state(0).ok());
}

}  // namespace
}  // namespace nbdkit
