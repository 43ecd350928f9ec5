// SPDX-License-Identifier: BSD-3-Clause
#include "attach/surroundings.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>

namespace nbdkit {
namespace {

bool same_limits(const Surroundings& a, const Surroundings& b) {
  return a.limits && b.limits && std::memcmp(&*a.limits, &*b.limits, sizeof *a.limits) == 0;
}

TEST(SurroundingsTest, WhatIsSavedComesBack) {
  Surroundings kept = Surroundings::ours();
  ASSERT_TRUE(kept.limits && kept.groups && kept.oom_score);
  (*kept.limits)[RLIMIT_FSIZE] = {4096, RLIM_INFINITY};
  kept.oom_score = -17;
  kept.groups = {7, {0, 5, 4'000'000'000}};
  Surroundings back = parse_surroundings(Json::parse(to_json(kept).dump()).value());
  EXPECT_TRUE(same_limits(kept, back));
  EXPECT_EQ(back.oom_score, -17);
  EXPECT_EQ(back.groups, kept.groups);
}

TEST(SurroundingsTest, WhatIsNoneOfThatIsLeftAsItIs) {
  for (const char* text :
       {"null", "{}", R"({"limits":[1,2],"oom_score":1001,"group":-1,"groups":[]})",
        R"({"limits":7,"oom_score":"1","group":4294967295,"groups":[]})",
        R"({"limits":{},"oom_score":null,"group":1,"groups":[1,"2"]})"}) {
    Surroundings parsed = parse_surroundings(Json::parse(text).value());
    EXPECT_FALSE(parsed.limits || parsed.oom_score || parsed.groups) << text;
  }
}

TEST(SurroundingsTest, AChildHasThem) {
  Surroundings wanted = Surroundings::ours();
  rlimit& files = (*wanted.limits)[RLIMIT_NOFILE];
  files.rlim_cur = files.rlim_max = files.rlim_cur - 1;
  wanted.oom_score = 998;
  pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    wanted.apply();
    Surroundings got = Surroundings::ours();
    bool right = same_limits(wanted, got) && got.oom_score == 998 && got.groups == wanted.groups;
    ::_exit(right ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace nbdkit
