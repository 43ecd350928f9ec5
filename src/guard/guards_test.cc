// SPDX-License-Identifier: BSD-3-Clause
#include "guard/guards.h"

#include <gtest/gtest.h>
#include <sched.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <string>

#include "async/child.h"

namespace nbdkit {
namespace {

Guard missing_one() { return {"memory-lock", "mlockall", "0 KiB locked", "no", "a capability"}; }

TEST(Guards, WhatIsMissingIsOneSentenceEach) {
  Guards guards;
  guards.add({"oom-score", "-1000", "-1000", {}, "x"});
  EXPECT_TRUE(guards.complete());
  EXPECT_EQ(guards.missing(), "");
  guards.add(missing_one());
  guards.add({"real-time", "SCHED_FIFO 1", "ordinary", "neither", "another one"});
  EXPECT_FALSE(guards.complete());
  EXPECT_EQ(guards.missing(), "memory-lock: no (a capability); real-time: neither (another one)");
}

TEST(Guards, TheyAreToldAndUnderstood) {
  std::vector<Guard> told{{"oom-score", "-1000", "-1000", {}, "x"}, missing_one()};
  Result<std::vector<Guard>> heard = parse_guards(to_json(told));
  ASSERT_TRUE(heard.ok());
  ASSERT_EQ(heard.value().size(), 2u);
  EXPECT_EQ(heard.value()[0].name, "oom-score");
  EXPECT_FALSE(heard.value()[0].missing());
  EXPECT_EQ(heard.value()[1].why_not, "no");
  EXPECT_EQ(heard.value()[1].remedy, "a capability");
  EXPECT_FALSE(parse_guards(Json("text")).ok());
  EXPECT_NE(describe(told).find("no; needs: a capability"), std::string::npos);
}

// Whatever this machine allows: every guard is there, and none of it is done to this process.
TEST(Guards, TryingThemChangesNothingHere) {
  Result<std::vector<Guard>> tried = try_guards();
  ASSERT_TRUE(tried.ok()) << tried.error().message();
  std::string names;
  for (const Guard& guard : tried.value()) {
    names += guard.name + " ";
    EXPECT_EQ(guard.missing(), guard.why_not != "");
    EXPECT_FALSE(guard.remedy.empty());
  }
  EXPECT_EQ(names, "io-flusher oom-score memory-lock real-time memory-bound ");
  EXPECT_EQ(::sched_getscheduler(0), SCHED_OTHER);
}

// oom_score_adj of `process`, or of the caller.
int oom_score(const std::string& process) {
  int score = 1000;
  std::ifstream("/proc/" + process + "/oom_score_adj") >> score;
  return score;
}

// A child that waits for its end; `start` says how it comes to be. Its score.
template <typename Start>
int score_of_child(Start start) {
  int ends[2];
  EXPECT_EQ(::pipe(ends), 0);
  pid_t child = start(ends);
  char ready = 0;
  EXPECT_EQ(::read(ends[0], &ready, 1), 1);
  int score = oom_score(std::to_string(child));
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  return score;
}

pid_t forked(int (&ends)[2]) {
  pid_t child = ::fork();
  if (child != 0) return child;
  (void)!::write(ends[1], "x", 1);
  for (;;) ::pause();
}

pid_t spawned(int (&ends)[2]) {
  char sleep[] = "sleep", seconds[] = "600";
  char* arguments[] = {sleep, seconds, nullptr};
  pid_t child = 0;
  EXPECT_EQ(::posix_spawn(&child, "/bin/sleep", nullptr, nullptr, arguments, environ), 0);
  make_child_ordinary(child);
  EXPECT_EQ(::write(ends[1], "x", 1), 1);
  return child;
}

// Anybody may make himself a better candidate; what is checked is that it is not inherited.
void check_children() {
  std::ofstream("/proc/self/oom_score_adj") << 300;
  EXPECT_EQ(score_of_child(&forked), 300);
  EXPECT_EQ(score_of_child(&spawned), 300);
  make_children_ordinary();
  EXPECT_EQ(score_of_child(&forked), 0);
  EXPECT_EQ(score_of_child(&spawned), 0);
  EXPECT_EQ(oom_score("self"), 300);
}

TEST(Guards, ChildrenAreOrdinaryHoweverTheyAreMade) {
  pid_t process = ::fork();  // Nothing of it can be taken back.
  if (process == 0) {
    check_children();
    std::_Exit(testing::Test::HasFailure() ? 1 : 0);
  }
  int status = 1;
  EXPECT_EQ(::waitpid(process, &status, 0), process);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace nbdkit
