// SPDX-License-Identifier: BSD-3-Clause
#include "base/parse.h"

#include <gtest/gtest.h>

#include <limits>
#include <string>

namespace nbdkit {
namespace {

constexpr std::int64_t kInt64Max = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t kInt64Min = std::numeric_limits<std::int64_t>::min();

// Every refusal says what it refuses.
template <typename T>
void expect_refused(const Result<T>& result, std::string_view text) {
  ASSERT_FALSE(result.ok()) << text;
  EXPECT_NE(result.error().message().find("'" + std::string(text) + "'"), std::string::npos)
      << result.error().message();
}

TEST(ParseSize, TakesDecimalNumbersAndSuffixes) {
  struct {
    const char* text;
    std::int64_t size;
  } const cases[] = {
      {"0", 0},
      {"1", 1},
      {"007", 7},
      {"42b", 42},
      {"42B", 42},
      {"3s", 3 * 512},
      {"3S", 3 * 512},
      {"1k", 1024},
      {"1K", 1024},
      {"1m", 1 << 20},
      {"2M", 2 << 20},
      {"1g", 1 << 30},
      {"1T", std::int64_t{1} << 40},
      {"1p", std::int64_t{1} << 50},
      {"7E", std::int64_t{7} << 60},
      {"9223372036854775807", kInt64Max},
      {"9007199254740991k", kInt64Max - 1023},
  };
  for (const auto& one : cases) {
    Result<std::int64_t> size = parse_size(one.text);
    ASSERT_TRUE(size.ok()) << one.text;
    EXPECT_EQ(size.value(), one.size) << one.text;
  }
}

TEST(ParseSize, RefusesWhatDoesNotFitIn63Bits) {
  for (const char* text : {"9223372036854775808", "18446744073709551616", "8e", "16E",
                           "9007199254740992k", "99999999999999999999999", "18014398509481984s"}) {
    expect_refused(parse_size(text), text);
  }
}

TEST(ParseSize, RefusesGarbage) {
  for (const char* text :
       {"", "k", "-1", "+1", " 1", "1 ", "1 k", "1kk", "1kb", "1.5M", "1x", "0x10", "M1", "1\n"}) {
    expect_refused(parse_size(text), text);
  }
}

TEST(ParseBool, TakesAllWordsInAnyCase) {
  for (const char* text : {"1", "true", "t", "yes", "y", "on", "TRUE", "T", "Yes", "Y", "oN"}) {
    EXPECT_TRUE(parse_bool(text).value()) << text;
  }
  for (const char* text : {"0", "false", "f", "no", "n", "off", "FALSE", "F", "No", "N", "oFF"}) {
    EXPECT_FALSE(parse_bool(text).value()) << text;
  }
}

TEST(ParseBool, RefusesEverythingElse) {
  for (const char* text : {"", "2", "00", "tru", "truee", " yes", "on ", "ja"}) {
    expect_refused(parse_bool(text), text);
  }
}

TEST(ParseSigned, KnowsTheThreeBases) {
  auto parse = [](const char* text) { return parse_signed(text, kInt64Min, kInt64Max).value(); };
  EXPECT_EQ(parse("0"), 0);
  EXPECT_EQ(parse("-7"), -7);
  EXPECT_EQ(parse("+7"), 7);
  EXPECT_EQ(parse("0x1F"), 31);
  EXPECT_EQ(parse("-0x10"), -16);
  EXPECT_EQ(parse("010"), 8);
  EXPECT_EQ(parse(" 5"), 5);  // As strtol does.
  EXPECT_EQ(parse("9223372036854775807"), kInt64Max);
  EXPECT_EQ(parse("-9223372036854775808"), kInt64Min);
}

TEST(ParseSigned, KeepsToItsLimits) {
  EXPECT_EQ(parse_signed("-128", -128, 127).value(), -128);
  EXPECT_EQ(parse_signed("127", -128, 127).value(), 127);
  for (const char* text : {"128", "-129", "0x80", "9223372036854775808", "-9223372036854775809",
                           "18446744073709551616"}) {
    Result<std::int64_t> result = parse_signed(text, -128, 127);
    expect_refused(result, text);
    EXPECT_EQ(result.error().code, std::errc::result_out_of_range) << text;
  }
}

TEST(ParseSigned, RefusesGarbage) {
  for (const char* text :
       {"", "-", "+", "x", "1x", "1 ", "--1", "+-1", "- 1", "0x", "09", "1k", "1.0", " ", "0xg"}) {
    expect_refused(parse_signed(text, kInt64Min, kInt64Max), text);
  }
  std::string zero("1\0002", 3);
  EXPECT_FALSE(parse_signed(zero, kInt64Min, kInt64Max).ok());
}

TEST(ParseUnsigned, KeepsToItsLimitAndTakesNoMinus) {
  constexpr std::uint64_t kMax = std::numeric_limits<std::uint64_t>::max();
  EXPECT_EQ(parse_unsigned("18446744073709551615", kMax).value(), kMax);
  EXPECT_EQ(parse_unsigned("0377", 255).value(), 255u);
  EXPECT_EQ(parse_unsigned("0xff", 255).value(), 255u);
  for (const char* text : {"256", "0x100", "-1", "-0", " -1", "", "ten", "18446744073709551616"}) {
    expect_refused(parse_unsigned(text, 255), text);
  }
}

TEST(ParseDelay, TakesUnitsAndFractions) {
  struct {
    const char* text;
    Nanoseconds delay;
  } const cases[] = {
      {"0", Nanoseconds(0)},
      {"2", Seconds(2)},
      {"1.5", Milliseconds(1500)},
      {"1.2s", Milliseconds(1200)},
      {"120ms", Milliseconds(120)},
      {"0.5ms", Nanoseconds(500'000)},
      {"1us", Nanoseconds(1000)},
      {"1ns", Nanoseconds(1)},
      {".5", Milliseconds(500)},
      {"5.", Seconds(5)},
      {"4000000000", Seconds(4'000'000'000)},
  };
  for (const auto& one : cases) {
    Result<Nanoseconds> delay = parse_delay(one.text);
    ASSERT_TRUE(delay.ok()) << one.text;
    EXPECT_EQ(delay.value(), one.delay) << one.text;
  }
}

TEST(ParseDelay, RefusesGarbageAndWhatIsTooLong) {
  for (const char* text : {"", "s", "ms", ".", "-1", "+1", "1x", "1 s", " 1", "1m", "1.2.3", "1e3",
                           "inf", "nan", "0x10", "1sms", "4000000001", "99999999999999999999s"}) {
    expect_refused(parse_delay(text), text);
  }
}

}  // namespace
}  // namespace nbdkit
