// SPDX-License-Identifier: BSD-3-Clause
#include "attach/suspects.h"

#include <gtest/gtest.h>

#include "attach/run_folder.h"

namespace nbdkit {
namespace {

using Requests = std::vector<LedgerRequest>;

constexpr LedgerRequest kGuilty{1, 8192, 4096};
constexpr LedgerRequest kInnocent{0, 0, 512};

std::vector<LedgerMark> marks(const Suspects& suspects) {
  std::vector<LedgerMark> found;
  for (const MarkedRequest& marked : suspects.marked()) found.push_back(marked.mark);
  return found;
}

TEST(SuspectsTest, AfterThreeDeathsItIsAloneAndThenRefused) {
  Suspects suspects;
  suspects.died(Requests{kGuilty, kInnocent});
  suspects.died(Requests{kInnocent, kGuilty});
  EXPECT_TRUE(suspects.marked().empty());
  suspects.died(Requests{kGuilty, kInnocent});
  EXPECT_EQ(marks(suspects), (std::vector{LedgerMark::alone, LedgerMark::alone}));
  suspects.died(Requests{kGuilty});
  EXPECT_EQ(marks(suspects), std::vector{LedgerMark::refuse});
  EXPECT_EQ(suspects.refused().front(), kGuilty);
}

TEST(SuspectsTest, OneThatWasAnsweredMeanwhileBeginsAnew) {
  Suspects suspects;
  suspects.died(Requests{kGuilty});
  suspects.died(Requests{kGuilty});
  suspects.died(Requests{kInnocent});
  suspects.died(Requests{kGuilty});
  EXPECT_TRUE(suspects.marked().empty());
}

TEST(SuspectsTest, NobodyIsGuiltyTogether) {
  Suspects suspects;
  for (int death = 0; death < 5; ++death) suspects.died(Requests{kGuilty, kInnocent});
  EXPECT_TRUE(suspects.refused().empty());
}

TEST(SuspectsTest, TheSameRequestTwiceIsOne) {
  Suspects suspects;
  for (std::size_t death = 0; death < Suspects::kDeathsMax; ++death) {
    suspects.died(Requests{kGuilty, kGuilty});
  }
  EXPECT_EQ(marks(suspects), std::vector{LedgerMark::alone});
}

TEST(SuspectsTest, AnotherProgramTriesAgain) {
  Suspects suspects;
  for (int death = 0; death < 4; ++death) suspects.died(Requests{kGuilty});
  ASSERT_EQ(suspects.refused().size(), 1u);
  suspects.forget();
  EXPECT_TRUE(suspects.marked().empty() && suspects.refused().empty());
}

TEST(SuspectsTest, WhereItMayHaveBeenKilledItIsAloneAndNotRefused) {
  Suspects suspects;
  for (int death = 0; death < 5; ++death) {
    suspects.died(Requests{kGuilty}, Suspects::Cause::unknown);
  }
  EXPECT_EQ(marks(suspects), std::vector{LedgerMark::alone});
  suspects.died(Requests{kGuilty});
  EXPECT_EQ(marks(suspects), std::vector{LedgerMark::refuse});
}

TEST(SuspectsTest, AnotherKeeperGoesOnCounting) {
  Suspects suspects;
  for (int death = 0; death < 4; ++death) suspects.died(Requests{kInnocent});
  for (int death = 0; death < 2; ++death) suspects.died(Requests{kGuilty});
  Suspects next;
  next.restore(Json::parse(suspects.save().dump()).value());
  EXPECT_EQ(marks(next), std::vector{LedgerMark::refuse});
  EXPECT_EQ(next.refused().front(), kInnocent);
  next.died(Requests{kGuilty});
  EXPECT_EQ(marks(next), (std::vector{LedgerMark::refuse, LedgerMark::alone}));
  next.died(Requests{kGuilty});
  EXPECT_EQ(next.refused().back(), kGuilty);
}

TEST(SuspectsTest, WhatIsNoRequestIsNotKnown) {
  for (const char* text :
       {"null", "[]", "7", R"({"suspects":7,"refused":{}})",
        R"({"suspects":[1,[],[1,2,3],[1,-2,3,3],[70000,2,3,3]],"refused":[[1,2],["1",2,3]]})"}) {
    Suspects suspects;
    suspects.restore(Json::parse(text).value());
    EXPECT_TRUE(suspects.marked().empty()) << text;
  }
}

TEST(SuspectsTest, AllThatOneServerCanHaveIsKept) {
  Requests requests;
  constexpr std::size_t kMax = RequestLedger::kConnectionsMax * RequestLedger::kRequestsMax;
  for (std::uint64_t i = 0; i < kMax; ++i) requests.push_back({0xffff, ~i, ~i});
  Suspects suspects;
  suspects.died(requests);
  Json state = Json::object().set("handover", Json::object().set("requests", suspects.save()));
  EXPECT_LT(state.dump(2).size() + 64 * 1024, RunFolder::kFileMax);
}

TEST(SuspectsTest, ARequestIsDescribedForPeople) {
  EXPECT_EQ(describe(kGuilty), "write of 4096 bytes at 8192");
  EXPECT_EQ(describe({200, 1, 2}), "request of 2 bytes at 1");
}

}  // namespace
}  // namespace nbdkit
