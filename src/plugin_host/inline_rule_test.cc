// SPDX-License-Identifier: BSD-3-Clause
#include "plugin_host/inline_rule.h"

#include <gtest/gtest.h>

namespace nbdkit {
namespace {

struct InlineRuleTest : testing::Test {
  void calls(int count, Nanoseconds each, std::size_t bytes = 0) {
    for (int i = 0; i < count; ++i) {
      now += each;
      rule.learn(each, bytes, now);
    }
  }
  InlineRule rule;
  Nanoseconds now{1};
};

TEST_F(InlineRuleTest, BeginsWithTheWorkers) { EXPECT_FALSE(rule.allows()); }

TEST_F(InlineRuleTest, ManyShortCallsConvinceIt) {
  calls(100, Nanoseconds(50));
  EXPECT_FALSE(rule.allows());
  calls(10'000, Nanoseconds(50));
  EXPECT_TRUE(rule.allows());
}

TEST_F(InlineRuleTest, SlowCallsNeverDo) {
  calls(100'000, Nanoseconds(2'000));
  EXPECT_FALSE(rule.allows());
}

TEST_F(InlineRuleTest, CopyingDoesNotCount) {
  calls(10'000, Nanoseconds(38'000), 256 * 1024);
  EXPECT_TRUE(rule.allows());
}

TEST_F(InlineRuleTest, AMillisecondInEveryThousandStaysWithTheWorkers) {
  for (int i = 0; i < 100; ++i) {
    calls(999, Nanoseconds(50));
    EXPECT_FALSE(rule.allows());
    calls(1, Milliseconds(1));
  }
}

TEST_F(InlineRuleTest, ACallThatWasLongBarsThemForAWhile) {
  calls(10'000, Nanoseconds(50));
  calls(1, Milliseconds(20));
  EXPECT_FALSE(rule.allows());
  calls(200'000, Nanoseconds(10));
  EXPECT_FALSE(rule.allows()) << "two milliseconds later";
  now += InlineRule::kBarred;
  calls(1, Nanoseconds(10));
  EXPECT_TRUE(rule.allows());
}

TEST_F(InlineRuleTest, APluginThatBecomesSlowGoesBack) {
  calls(10'000, Nanoseconds(50));
  ASSERT_TRUE(rule.allows());
  calls(100, Nanoseconds(100'000));
  EXPECT_FALSE(rule.allows());
}

}  // namespace
}  // namespace nbdkit
