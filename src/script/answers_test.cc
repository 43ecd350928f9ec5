// SPDX-License-Identifier: BSD-3-Clause
#include "script/answers.h"

#include <gtest/gtest.h>

namespace nbdkit {
namespace {

TEST(ScriptError, ANameIsTheNumberAndTheRestOfTheLineTheWords) {
  Error error = parse_script_error("enospc   no  room\nmore\n");
  EXPECT_EQ(error.code, std::errc::no_space_on_device);
  EXPECT_EQ(error.detail(), "no  room");
  EXPECT_EQ(parse_script_error("EOPNOTSUPP").code, std::errc::not_supported);
  EXPECT_EQ(parse_script_error("ESHUTDOWN\n").code, static_cast<std::errc>(ESHUTDOWN));
}

TEST(ScriptError, OtherWordsAreOnlyWords) {
  for (const char* text : {"ENOSPCx y", " ENOSPC y", "ENOSPC: y", "ENOENT y", "cat: no file"}) {
    Error error = parse_script_error(text);
    EXPECT_EQ(error.code, std::errc::io_error) << text;
    EXPECT_EQ(error.detail(), text);
  }
  EXPECT_EQ(parse_script_error("").code, std::errc::io_error);
}

TEST(ScriptMode, IsOneOfThreeWords) {
  EXPECT_EQ(parse_script_mode("none\n"), ScriptMode::none);
  EXPECT_EQ(parse_script_mode("Emulate"), ScriptMode::emulate);
  EXPECT_EQ(parse_script_mode("NATIVE\n"), ScriptMode::native);
  for (const char* text : {"", " native", "nativex", "native\n\n"}) {
    EXPECT_EQ(parse_script_mode(text), std::nullopt) << text;
  }
}

TEST(ScriptBlockSize, IsThreeSizesAndWhatFollowsIsIgnored) {
  BlockSize block = parse_block_size("1\n4K\t1M more").value();
  EXPECT_EQ(block.minimum, 1u);
  EXPECT_EQ(block.preferred, 4096u);
  EXPECT_EQ(block.maximum, 1u << 20);
  EXPECT_FALSE(parse_block_size("0 0 0").value().known());
  for (const char* text : {"", "1 4K", "3 4K 1M", "1 4K x", "1 4K 8G", "4K 512 1M", "-1 4K 1M"}) {
    EXPECT_FALSE(parse_block_size(text).ok()) << text;
  }
}

std::vector<Extent> extents_of(std::string_view text) {
  Extents extents(4096, 65536);
  EXPECT_TRUE(parse_extents(text, extents).ok()) << text;
  return {extents.list().begin(), extents.list().end()};
}

TEST(ScriptExtents, HaveATypeInNumbersOrWords) {
  auto type = [](std::string_view word) {
    return extents_of(std::string("0 64K ").append(word)).at(0).type;
  };
  EXPECT_EQ(type(""), ExtentType::data);
  EXPECT_EQ(type("0"), ExtentType::data);
  EXPECT_EQ(type("1"), ExtentType::hole);
  EXPECT_EQ(type("3"), ExtentType::hole_and_zero);
  EXPECT_EQ(type("hole"), ExtentType::hole);
  EXPECT_EQ(type("zero,hole"), ExtentType::hole_and_zero);
  EXPECT_EQ(type("nonsense"), ExtentType::data);
  EXPECT_EQ(type("zero,"), ExtentType::zero);
}

TEST(ScriptExtents, AreOneALineInOrder) {
  auto list = extents_of("0 4K\n4K   4K\thole,zero\n8K 1G 0\n");
  ASSERT_EQ(list.size(), 2u);
  EXPECT_EQ(list[0].offset, 4096u);
  EXPECT_EQ(list[0].length, 4096u);
  EXPECT_EQ(list[1].length, 65536u - 8192u);
}

TEST(ScriptExtents, WhatIsNoListOfExtentsIsAnError) {
  for (const char* text : {"", "0\n", "x 4K\n", "0 x\n", "\n0 64K\n", "8K 4K\n", "0 8K\n16K 4K\n",
                           "0 4K\n", "0 9223372036854775808\n"}) {
    Extents extents(4096, 65536);
    EXPECT_FALSE(parse_extents(text, extents).ok()) << text;
  }
}

TEST(ScriptExtents, TheLargestNumbersDoNotOverflow) {
  auto list = extents_of("0 9223372036854775807\n");
  EXPECT_EQ(list.at(0).length, 65536u - 4096u);
  list = extents_of("0 8K\n8K 9223372036854775807 3\n");
  EXPECT_EQ(list.at(1).length, 65536u - 8192u);
}

std::string exports_of(std::string_view text) {
  std::string all;
  const std::vector<ExportEntry> exports = parse_exports(text).value();
  for (const ExportEntry& entry : exports) {
    all += entry.name + "=" + entry.description + ";";
  }
  return all;
}

TEST(ScriptExports, HaveFourForms) {
  EXPECT_EQ(exports_of(""), "");
  EXPECT_EQ(exports_of("a\nb\n"), "a=;b=;");
  EXPECT_EQ(exports_of("NAMES\n\nb"), "=;b=;");
  EXPECT_EQ(exports_of("INTERLEAVED\na\nd1\nb\nd2\n"), "a=d1;b=d2;");
  EXPECT_EQ(exports_of("INTERLEAVED\na\nd1\nb\n"), "a=d1;b=;");
  EXPECT_EQ(exports_of("NAMES+DESCRIPTIONS\na\nb\nd1\nd2\n"), "a=d1;b=d2;");
  EXPECT_EQ(exports_of("NAMES+DESCRIPTIONS\na\nb\nd1\n"), "a=d1;b=;");
}

TEST(ScriptExports, ANameThatTheProtocolCannotCarryIsAnError) {
  EXPECT_TRUE(parse_exports(std::string(4096, 'n')).ok());
  EXPECT_FALSE(parse_exports(std::string(4097, 'n')).ok());
  EXPECT_FALSE(parse_exports("INTERLEAVED\na\n" + std::string(4097, 'd')).ok());
  std::string many;
  for (int i = 0; i <= 10'000; ++i) many += "x\n";
  EXPECT_FALSE(parse_exports(many).ok());
}

}  // namespace
}  // namespace nbdkit
