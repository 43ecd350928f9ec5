// SPDX-License-Identifier: BSD-3-Clause
#include "attach/upgrade_call.h"

#include <gtest/gtest.h>

namespace nbdkit {
namespace {

std::string refusal(std::string_view params) {
  Result<UpgradeOptions> parsed = parse_upgrade_call(Json::parse(params).value());
  if (parsed.ok()) return "accepted";
  EXPECT_EQ(parsed.error().code, std::errc::argument_out_of_domain);
  return parsed.error().message();
}

TEST(UpgradeCallTest, WhatIsAskedForArrives) {
  UpgradeOptions options;
  options.server = "/opt/nbdkit";
  options.changes_data = true;
  options.start.emplace();
  options.start->filters = {"log"};
  options.start->plugin = {"memory", "1M\xff"};
  options.start->environment = {"A=b c"};
  Result<UpgradeOptions> parsed = parse_upgrade_call(to_json(options));
  ASSERT_TRUE(parsed.ok()) << parsed.error().message();
  EXPECT_EQ(parsed.value().server, options.server);
  EXPECT_TRUE(parsed.value().changes_data);
  ASSERT_TRUE(parsed.value().start);
  EXPECT_EQ(parsed.value().start->filters, options.start->filters);
  EXPECT_EQ(parsed.value().start->plugin, options.start->plugin);
  EXPECT_EQ(parsed.value().start->environment, options.start->environment);
}

TEST(UpgradeCallTest, NothingIsAskedFor) {
  for (std::string_view params : {"{}", "null"}) {
    Result<UpgradeOptions> parsed = parse_upgrade_call(Json::parse(params).value());
    ASSERT_TRUE(parsed.ok());
    EXPECT_TRUE(parsed.value().server.empty());
    EXPECT_FALSE(parsed.value().start || parsed.value().changes_data);
  }
}

TEST(UpgradeCallTest, WhatIsWrongIsNamed) {
  EXPECT_EQ(refusal(R"({"server":"nbdkit"})"), "\"server\" must be an absolute path");
  EXPECT_EQ(refusal(R"({"server":7})"), "\"server\" must be an absolute path");
  EXPECT_EQ(refusal(R"({"changes_data":1})"), "\"changes_data\" must be true or false");
  EXPECT_NE(refusal(R"({"start":{"plugin":[]}})").find("\"start\" must be"), std::string::npos);
  EXPECT_NE(refusal(R"({"start":"memory"})").find("\"start\" must be"), std::string::npos);
  EXPECT_NE(refusal(R"({"force":true})").find("takes \"server\""), std::string::npos);
}

TEST(UpgradeCallTest, AReportArrives) {
  UpgradeReport report{std::chrono::microseconds(5400), std::chrono::microseconds(12)};
  Result<UpgradeReport> parsed = parse_upgrade_report(to_json(report));
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(parsed.value().hand_over, report.hand_over);
  EXPECT_EQ(parsed.value().activate, report.activate);
  EXPECT_EQ(parse_upgrade_report(Json::parse("{}").value()).error().message(),
            "the keeper's answer has no hand_over_us");
}

}  // namespace
}  // namespace nbdkit
