// SPDX-License-Identifier: BSD-3-Clause
#include "attach/queue_settings.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "netlink/exit_code.h"

namespace nbdkit {
namespace {

constexpr std::uint64_t kHardwareKb = 32'768;

std::string value_of(const QueueNeeds& needs, const std::string& key) {
  Result<std::vector<QueueSetting>> list = queue_settings(needs, kHardwareKb);
  if (!list.ok()) return std::string(list.error().message());
  auto found = std::find_if(
      list.value().rbegin(), list.value().rend(),
      [&](const QueueSetting& setting) { return setting.attribute == "queue/" + key; });
  return found != list.value().rend() ? found->value : "absent";
}

QueueNeeds with_sizes(std::uint32_t preferred, std::uint32_t maximum) {
  QueueNeeds needs;
  needs.block_size = {512, preferred, maximum};
  return needs;
}

TEST(QueueSettingsTest, RequestsAreNeverLongerThanTheExportTakes) {
  EXPECT_EQ(value_of(with_sizes(4096, 64 << 10), "max_sectors_kb"), "64");
  EXPECT_EQ(value_of(with_sizes(4096, 1 << 20), "max_sectors_kb"), "1024");
  QueueNeeds odd = with_sizes(4096, 98 << 10);
  odd.device_block_size = 4096;
  EXPECT_EQ(value_of(odd, "max_sectors_kb"), "96");
}

TEST(QueueSettingsTest, RequestsWithoutALimitHaveOurs) {
  EXPECT_EQ(value_of({}, "max_sectors_kb"), "1280");
  EXPECT_EQ(value_of(with_sizes(4096, 0xffffffff), "max_sectors_kb"), "1280");
  QueueNeeds swap;
  swap.swap = true;
  EXPECT_EQ(value_of(swap, "max_sectors_kb"), "128");
}

TEST(QueueSettingsTest, ReadAheadIsTwoOfThePreferredRequests) {
  EXPECT_EQ(value_of({}, "read_ahead_kb"), "128");
  EXPECT_EQ(value_of(with_sizes(4096, 0xffffffff), "read_ahead_kb"), "128");
  EXPECT_EQ(value_of(with_sizes(1 << 20, 0xffffffff), "read_ahead_kb"), "2048");
  EXPECT_EQ(value_of(with_sizes(32 << 20, 32 << 20), "read_ahead_kb"), "8192");
}

TEST(QueueSettingsTest, TheUsersWishesComeFirst) {
  QueueNeeds needs = with_sizes(4096, 1 << 20);
  needs.chosen = {{"scheduler", "kyber"}, {"max_sectors_kb", "512"}, {"scheduler", "mq-deadline"}};
  EXPECT_EQ(value_of(needs, "scheduler"), "mq-deadline");
  EXPECT_EQ(value_of(needs, "max_sectors_kb"), "512");
  EXPECT_EQ(value_of(needs, "nr_requests"), "absent");
  needs.chosen = {{"max_sectors_kb", "2048"}};
  Result<std::vector<QueueSetting>> list = queue_settings(needs, kHardwareKb);
  ASSERT_FALSE(list.ok());
  EXPECT_EQ(exit_code_of(list.error()), ExitCode::invalid_value);
}

TEST(QueueSettingsTest, FlushesOfADeviceWithACacheAreSent) {
  QueueNeeds needs;
  EXPECT_EQ(value_of(needs, "write_cache"), "absent");
  needs.flush = true;
  EXPECT_EQ(value_of(needs, "write_cache"), "write back");
}

TEST(QueueSettingsTest, OnlyKnownKeysWithAValueAreTaken) {
  EXPECT_TRUE(parse_queue_setting("scheduler=none").ok());
  for (const char* wrong :
       {"", "scheduler", "scheduler=", "write_cache=write", "rotational=1 2", "../x=1", "=1"}) {
    Result<std::pair<std::string, std::string>> parsed = parse_queue_setting(wrong);
    ASSERT_FALSE(parsed.ok()) << wrong;
    EXPECT_EQ(exit_code_of(parsed.error()), ExitCode::usage) << wrong;
  }
}

}  // namespace
}  // namespace nbdkit
