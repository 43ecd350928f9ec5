// SPDX-License-Identifier: BSD-3-Clause
#include "base/json.h"

#include <gtest/gtest.h>

namespace nbdkit {
namespace {

std::string why_not(std::string_view text) {
  Result<Json> json = Json::parse(text);
  return json.ok() ? "accepted" : json.error().message();
}

TEST(JsonTest, WhatIsWrittenIsReadBack) {
  Json json = Json::object();
  json.set("name", "nbd0").set("size", std::uint64_t{1} << 63).set("change", -1).set("on", true);
  json.set("list", Json::array().push(1).push("two").push(Json())).set("half", 0.5);
  Result<Json> back = Json::parse(json.dump());
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(back.value(), json);
  EXPECT_EQ(json.dump(), R"({"name":"nbd0","size":9223372036854775808,"change":-1,"on":true,)"
                         R"("list":[1,"two",null],"half":0.5})");
}

TEST(JsonTest, AnotherTypeIsNothing) {
  Json json = Json::parse(R"({"text":"1","number":-1,"list":[],"real":1.0})").value();
  EXPECT_EQ(json.find("text")->as_unsigned(), std::nullopt);
  EXPECT_EQ(json.find("number")->as_unsigned(), std::nullopt);
  EXPECT_EQ(json.find("number")->as_signed(), -1);
  EXPECT_EQ(json.find("number")->as_double(), -1.0);
  EXPECT_EQ(json.find("real")->as_unsigned(), std::nullopt);
  EXPECT_EQ(json.find("list")->find("x"), nullptr);
  EXPECT_EQ(json.find("absent"), nullptr);
  EXPECT_EQ(json.as_string(), nullptr);
}

TEST(JsonTest, SettingAgainReplaces) {
  EXPECT_EQ(Json::object().set("a", 1).set("b", 2).set("a", 3).dump(), R"({"a":3,"b":2})");
}

TEST(JsonTest, NumbersThatDoNotFitAreNotBent) {
  EXPECT_EQ(Json::parse("18446744073709551615").value().as_signed(), std::nullopt);
  EXPECT_EQ(Json::parse("18446744073709551615").value().as_unsigned(), UINT64_MAX);
  EXPECT_EQ(Json::parse("18446744073709551616").value().as_unsigned(), std::nullopt);
}

TEST(JsonTest, BrokenTextIsRefused) {
  for (std::string_view text : {"", " ", "{", "[1,]", "{\"a\" 1}", "nul", "1 2", "\"\xff\"",
                                "\"\\ud800\"", "{\"a\":1}}", "1e999"}) {
    EXPECT_NE(why_not(text), "accepted") << text;
  }
}

TEST(JsonTest, ANameTwiceIsRefused) {
  EXPECT_EQ(why_not(R"({"a":1,"b":{"a":1},"a":2})"), "\"a\" is there twice");
}

TEST(JsonTest, DeepNestingIsRefused) {
  std::string deep(Json::kDepthMax, '[');
  EXPECT_EQ(why_not(deep + std::string(Json::kDepthMax, ']')), "accepted");
  EXPECT_EQ(why_not(std::string(100'000, '[')), "nested too deeply");
}

TEST(JsonTest, TooManyNamesAreRefused) {
  std::string text = "{";
  for (std::size_t i = 0; i < Json::kMembersMax; ++i) text += "\"" + std::to_string(i) + "\":0,";
  EXPECT_EQ(why_not(text + "\"x\":0}"), "too many names in an object");
  text.back() = '}';
  EXPECT_EQ(why_not(text), "accepted");
}

TEST(JsonTest, BadUtf8IsReplacedOnTheWayOut) {
  EXPECT_EQ(Json("a\xff").dump(), "\"a\xef\xbf\xbd\"");
}

}  // namespace
}  // namespace nbdkit
