// SPDX-License-Identifier: BSD-3-Clause
// What is different from the sh plugin: methods are parameters, and the plugin knows which it has.
#include <gtest/gtest.h>

#include <filesystem>

#include "support/stack.h"

namespace nbdkit {
namespace {

std::unique_ptr<Stack> eval(Parameters parameters) {
  auto made = Stack::plugin("eval", parameters);
  EXPECT_TRUE(made.ok()) << made.error().message();
  std::unique_ptr<Stack> stack = std::move(made).value();
  auto opened = stack->open("name");
  EXPECT_TRUE(opened.ok()) << opened.error().message();
  return stack;
}

std::string refusal(Parameters parameters) {
  auto made = Stack::plugin("eval", parameters);
  EXPECT_FALSE(made.ok());
  return made.ok() ? "" : made.error().message();
}

constexpr std::pair<std::string_view, std::string_view> kSize{"get_size", "echo 64K"};
constexpr std::pair<std::string_view, std::string_view> kRead{"pread", "head -c $3 /dev/zero"};

TEST(Eval, AMethodThatIsGivenCanBeUsed) {
  auto stack = eval({kSize,
                     kRead,
                     {"pwrite", "cat >/dev/null"},
                     {"flush", ""},
                     {"trim", ""},
                     {"zero", ""},
                     {"extents", "echo 0 64K"},
                     {"cache", ""}});
  const Properties& properties = stack->device().properties();
  EXPECT_TRUE(properties.can_write && properties.can_flush && properties.can_trim);
  EXPECT_TRUE(properties.can_extents && properties.can_cache && properties.can_fua);
  // Whether zeroing is fast only the script can say.
  EXPECT_FALSE(properties.can_fast_zero);
}

TEST(Eval, AMethodThatIsNotGivenCannotBeUsed) {
  auto stack = eval({kSize, kRead});
  const Properties& properties = stack->device().properties();
  EXPECT_FALSE(properties.can_write || properties.can_flush || properties.can_trim);
  EXPECT_FALSE(properties.can_extents || properties.can_cache || properties.can_fua);
}

TEST(Eval, TheScriptMayStillSayNo) {
  auto stack = eval({kSize, kRead, {"pwrite", ""}, {"can_write", "exit 3"}});
  EXPECT_FALSE(stack->device().properties().can_write);
}

TEST(Eval, MissingTakesThePlaceOfEveryOtherMethod) {
  auto stack = eval({kSize, kRead, {"missing", "test $1 = is_rotational || exit 2"}});
  EXPECT_TRUE(stack->device().properties().is_rotational);
  EXPECT_FALSE(stack->device().properties().can_write);
}

TEST(Eval, MissingIsNotAskedWhetherAGivenMethodCanBeUsed) {
  auto stack = eval({kSize,
                     kRead,
                     {"pwrite", "cat >/dev/null"},
                     {"missing", "case $1 in can_write) exit 3;; *) exit 2;; esac"}});
  EXPECT_TRUE(stack->device().properties().can_write);
}

TEST(Eval, OtherParametersAreForConfig) {
  auto stack = eval({{"config", "echo $3 > $tmpdir/$2"},
                     {"size", "1M"},
                     kRead,
                     {"get_size", "cat $tmpdir/size"}});
  EXPECT_EQ(stack->device().properties().size, 1u << 20);
  EXPECT_NE(refusal({kSize, {"size", "1M"}}).find("does not need"), std::string::npos);
}

TEST(Eval, TheTemporaryFolderLivesAsLongAsThePlugin) {
  std::string folder;
  {
    auto stack = eval({kSize,
                       {"pread", "printf '%.20s' $tmpdir/+++++++++++++++++++++++"},
                       {"unload", "test -d $tmpdir && touch $tmpdir/still-there"}});
    folder = stack->read(0, 20).value();
    folder.resize(folder.find_last_of('/'));
    EXPECT_TRUE(std::filesystem::is_directory(folder));
  }
  EXPECT_FALSE(std::filesystem::exists(folder));
}

TEST(Eval, AMessageNamesTheMethod) {
  auto stack = eval({kSize, {"pread", "echo ENOSPC no room >&2; exit 1"}});
  auto read = stack->read(0, 512);
  ASSERT_FALSE(read.ok());
  EXPECT_EQ(read.error().code, std::errc::no_space_on_device);
  EXPECT_EQ(read.error().message(), "pread: no room");
}

}  // namespace
}  // namespace nbdkit
