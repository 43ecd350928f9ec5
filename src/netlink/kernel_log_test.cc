// SPDX-License-Identifier: BSD-3-Clause
#include "netlink/kernel_log.h"

#include <gtest/gtest.h>

namespace nbdkit {
namespace {

using Texts = std::vector<std::string_view>;

TEST(KernelLogTest, FindsWhatIsAboutADevice) {
  KernelLog log;
  log.add("4,100,5140900,-;block nbd1: shutting down sockets\n SUBSYSTEM=block\n DEVICE=b43:32\n");
  log.add("6,101,5140901,c,caller=T1;EXT4-fs (nbd1): mounted; all is well\n");
  log.add("3,105,5140902,-;block nbd11: Connection timed out\n");
  log.add("3,106,5140903,-;block nbd1: Connection timed out\n");
  EXPECT_EQ(log.about(1, 0), (Texts{"shutting down sockets", "Connection timed out"}));
  EXPECT_EQ(log.about(1, 101), Texts{"Connection timed out"});
  EXPECT_EQ(log.about(1, 107), Texts());
  EXPECT_EQ(log.about(11, 0), Texts{"Connection timed out"});
  EXPECT_EQ(log.about(2, 0), Texts());
}

TEST(KernelLogTest, KnowsHowFarItReaches) {
  KernelLog log;
  EXPECT_FALSE(log.reaches_back_to(0));
  log.add("6,100,1,-;first\n");
  log.add("6,104,2,-;last\n");
  EXPECT_EQ(log.next(), 105U);
  EXPECT_FALSE(log.reaches_back_to(99));
  EXPECT_TRUE(log.reaches_back_to(100));
  EXPECT_TRUE(log.reaches_back_to(105));
}

TEST(KernelLogTest, PassesOverWhatIsNoRecord) {
  KernelLog log;
  for (std::string_view record :
       {"", "text", "6;text", "6,;text", "6,x,1;block nbd0: text", "6,7;text", ";6,7,8",
        "6,18446744073709551616,1,-;block nbd0: text"}) {
    log.add(record);
  }
  EXPECT_EQ(log.next(), 0U);
  EXPECT_EQ(log.about(0, 0), Texts());
}

}  // namespace
}  // namespace nbdkit
