// SPDX-License-Identifier: BSD-3-Clause
#include "attach/orphans.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

namespace nbdkit {
namespace {

pid_t start_sleeper() {
  pid_t pid = ::fork();
  if (pid == 0) {
    ::pause();
    ::_exit(0);
  }
  return pid;
}

TEST(Orphans, ADescendantWhoseParentHasEndedIsEnded) {
  Orphans orphans;
  ASSERT_TRUE(orphans.adopt().ok());
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  pid_t parent = ::fork();
  if (parent == 0) {
    // In a session of its own, as a daemon does; it holds the pipe open.
    if (::fork() == 0) {
      ::setsid();
      ::close(ends[0]);
      ::pause();
    }
    ::_exit(0);
  }
  ::close(ends[1]);
  ASSERT_EQ(::waitpid(parent, nullptr, 0), parent);
  EXPECT_TRUE(orphans.end(Seconds(30), 0).empty());
  char byte = 0;
  EXPECT_EQ(::read(ends[0], &byte, 1), 0) << "nobody has it open any more";
  ::close(ends[0]);
}

TEST(Orphans, AChildFromBeforeIsSpared) {
  pid_t before = start_sleeper();
  Orphans orphans;
  ASSERT_TRUE(orphans.adopt().ok());
  EXPECT_TRUE(orphans.end(Seconds(30), 0).empty());
  EXPECT_EQ(::waitpid(before, nullptr, WNOHANG), 0) << "it still runs";
  ::kill(before, SIGKILL);
  ::waitpid(before, nullptr, 0);
}

}  // namespace
}  // namespace nbdkit
