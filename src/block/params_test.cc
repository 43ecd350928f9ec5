// SPDX-License-Identifier: BSD-3-Clause
#include "block/params.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <string>

namespace nbdkit {
namespace {

struct ParamsTest : testing::Test {
  ParamsTest() {
    params.add_size("size", size, {.help = "the size", .min = 1, .max = 4096, .magic = true});
    params.add_number("count", count,
                      {.help = "the count", .alias = "counts", .min = -5, .max = 5});
    params.add_bool("flag", flag, {.help = "the flag"});
    params.add_delay("delay", delay, {.help = "the delay"});
    params.add_text("text", text, {.help = "the text"});
    params.add_path("file", path, {.help = "the file"});
    params.add_choice("mode", mode, {"fast", "safe"}, {.help = "the mode"});
  }
  std::string error(std::string_view key, std::string_view value) {
    Result<bool> set = params.set(key, value);
    return set.ok() ? "no error" : set.error().message();
  }

  std::int64_t size = 512, count = 1;
  bool flag = false;
  Nanoseconds delay{0};
  std::string text, path;
  std::size_t mode = 0;
  Params params;
};

TEST_F(ParamsTest, SetsEachType) {
  EXPECT_TRUE(params.set("size", "1k").value());
  EXPECT_TRUE(params.set("count", "-0x3").value());
  EXPECT_TRUE(params.set("flag", "yes").value());
  EXPECT_TRUE(params.set("delay", "5ms").value());
  EXPECT_TRUE(params.set("text", " any = thing ").value());
  EXPECT_TRUE(params.set("mode", "safe").value());
  EXPECT_EQ(size, 1024);
  EXPECT_EQ(count, -3);
  EXPECT_TRUE(flag);
  EXPECT_EQ(delay, Milliseconds(5));
  EXPECT_EQ(text, " any = thing ");
  EXPECT_EQ(mode, 1u);
}

TEST_F(ParamsTest, TheLastOneWinsAndAnAliasIsTheSameKey) {
  EXPECT_TRUE(params.set("counts", "2").value());
  EXPECT_TRUE(params.set("count", "3").value());
  EXPECT_EQ(count, 3);
}

TEST_F(ParamsTest, AnUnknownKeyIsSomebodyElses) {
  EXPECT_FALSE(params.set("other", "1").value());
  EXPECT_FALSE(params.set("", "1").value());
  EXPECT_FALSE(params.set("siz", "1").value());
}

TEST_F(ParamsTest, ABadValueIsQuotedAndChangesNothing) {
  EXPECT_NE(error("size", "12x").find("size=12x: "), std::string::npos);
  EXPECT_NE(error("size", "0").find("out of range (1..4096)"), std::string::npos);
  EXPECT_NE(error("size", "8k").find("out of range (1..4096)"), std::string::npos);
  EXPECT_NE(error("count", "6").find("out of range (-5..5)"), std::string::npos);
  EXPECT_NE(error("counts", "x").find("counts=x: "), std::string::npos);
  EXPECT_NE(error("flag", "perhaps").find("flag=perhaps: "), std::string::npos);
  EXPECT_NE(error("delay", "-1").find("delay=-1: "), std::string::npos);
  EXPECT_EQ(error("mode", "slow"), "mode=slow: 'slow' is none of fast|safe");
  EXPECT_NE(error("file", "").find("the path is empty"), std::string::npos);
  EXPECT_EQ(size, 512);
  EXPECT_EQ(count, 1);
  EXPECT_EQ(mode, 0u);
}

// The server changes to / when it goes to the background.
TEST_F(ParamsTest, PathsAreMadeAbsolute) {
  char here[4096];
  ASSERT_NE(::getcwd(here, sizeof here), nullptr);
  EXPECT_TRUE(params.set("file", "some/file").value());
  EXPECT_EQ(path, std::string(here) + "/some/file");
  EXPECT_TRUE(params.set("file", "/some/file").value());
  EXPECT_EQ(path, "/some/file");
}

TEST_F(ParamsTest, HelpNamesKeyTypeAndMeaning) {
  EXPECT_EQ(params.magic_key(), "size");
  std::string help = params.help();
  EXPECT_EQ(help.substr(0, 11), "[size=]SIZE");
  EXPECT_NE(help.find("the size\n"), std::string::npos);
  EXPECT_NE(help.find("\ncount=N "), std::string::npos);
  EXPECT_NE(help.find("\nmode=fast|safe "), std::string::npos);
  EXPECT_EQ(params.list().size(), 7u);
}

}  // namespace
}  // namespace nbdkit
