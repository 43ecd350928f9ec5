// SPDX-License-Identifier: BSD-3-Clause
#include "guard/guards.h"

#include <gtest/gtest.h>
#include <sched.h>

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

}  // namespace
}  // namespace nbdkit
