// SPDX-License-Identifier: BSD-3-Clause
#include "main/nbdkit_modules.h"

#include <gtest/gtest.h>

namespace nbdkit {
namespace {

class Recorder final : public Log {
 public:
  Recorder() : Log("test", true) {}
  void write(LogLevel, std::string_view, std::string_view line) override {
    text.append(line).push_back('\n');
  }
  std::string text;
};

// A plugin that takes every key and remembers the order.
class Taker final : public Layer {
 public:
  explicit Taker(std::string magic) : magic_(std::move(magic)) {}
  Result<bool> configure(std::string_view key, std::string_view value) override {
    taken.push_back(std::string(key) + "=" + std::string(value));
    return true;
  }
  std::string_view magic_key() const override { return magic_; }
  Contract contract() const override { return {}; }
  Task<DevicePtr> open(Context&) override { return Result<DevicePtr>(std::errc::not_supported); }

  std::vector<std::string> taken;

 private:
  std::string magic_;
};

struct ModulesTest : testing::Test {
  Result<void> configure(std::string magic, std::vector<std::string> parameters) {
    auto layer = std::make_unique<Taker>(std::move(magic));
    taker = layer.get();
    stack.add("taker", "/taker.so", std::move(layer));
    options.parameters = std::move(parameters);
    return configure_stack(options, stack, log);
  }
  Folders folders() {
    Folders found = Folders::find().value();
    found.plugins = NBDKIT_TEST_LIBDIR "/plugins";
    found.filters = NBDKIT_TEST_LIBDIR "/filters";
    found.foreign_plugins = "/nonexistent";
    return found;
  }
  Result<void> load(std::string plugin, std::vector<std::string> filters = {}) {
    options.plugin = std::move(plugin);
    options.filters = std::move(filters);
    return load_stack(options, folders(), stack, host);
  }

  Recorder log;
  Environment environment{log, {}};
  PluginHost host{log, {}};
  LayerStack stack{environment};
  Options options;
  Taker* taker = nullptr;
};

TEST(FindKeyEnd, AKeyBeginsWithALetter) {
  EXPECT_EQ(find_key_end("size=1"), 4u);
  EXPECT_EQ(find_key_end("a.b_c-9="), 7u);
  EXPECT_EQ(find_key_end("a=b=c"), 1u);
  for (std::string text : {"size", "=1", "1a=2", "/path=x", "a b=c", "-a=b", ""}) {
    EXPECT_EQ(find_key_end(text), std::nullopt) << text;
  }
}

TEST_F(ModulesTest, BareWordsAreTheMagicKeysValues) {
  ASSERT_TRUE(configure("file", {"a", "size=1", "=b", "c/d=e"}).ok());
  EXPECT_EQ(taker->taken, (std::vector<std::string>{"file=a", "size=1", "file==b", "file=c/d=e"}));
}

TEST_F(ModulesTest, WithoutAMagicKeyTheFirstWordIsTheScript) {
  ASSERT_TRUE(configure("", {"-", "key=value"}).ok());
  EXPECT_EQ(taker->taken, (std::vector<std::string>{"script=-", "key=value"}));
}

TEST_F(ModulesTest, WithoutAMagicKeyALaterBareWordIsRefused) {
  Result<void> result = configure("", {"key=value", "word"});
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().message().find("got 'word'"), std::string::npos);
}

TEST_F(ModulesTest, SecretsStayOutOfTheLog) {
  ASSERT_TRUE(configure("", {"password=hunter2", "user=me"}).ok());
  EXPECT_EQ(log.text.find("hunter2"), std::string::npos);
  EXPECT_NE(log.text.find("config key=user, value=me"), std::string::npos);
  EXPECT_EQ(taker->taken.front(), "password=hunter2");
}

TEST_F(ModulesTest, TheFirstFilterIsTheOutermost) {
  ASSERT_TRUE(
      load("null", {"nofilter", NBDKIT_TEST_LIBDIR "/filters/nbdkit-nofilter-filter.so"}).ok());
  ASSERT_EQ(stack.entries().size(), 3u);
  EXPECT_EQ(stack.entries()[0].name, "null");
  EXPECT_EQ(stack.entries()[2].name, "nofilter");
}

TEST_F(ModulesTest, AModuleThatIsNotThereIsNamedWithWhereItWasLookedFor) {
  Result<void> result = load("no-such-plugin");
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().message().find("cannot open plugin 'no-such-plugin'"),
            std::string::npos);
  EXPECT_NE(result.error().message().find(NBDKIT_TEST_LIBDIR "/plugins"), std::string::npos);
  result = load("./no-such.so");
  EXPECT_NE(result.error().message().find("cannot open plugin './no-such.so'"), std::string::npos);
  result = load("null", {"no-such-filter"});
  EXPECT_NE(result.error().message().find("cannot open filter 'no-such-filter'"),
            std::string::npos);
}

TEST_F(ModulesTest, AFilterIsNoPluginAndAPluginNoFilter) {
  Result<void> result = load(NBDKIT_TEST_LIBDIR "/filters/nbdkit-nofilter-filter.so");
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().message().find("this is a filter"), std::string::npos);
  result = load("null", {NBDKIT_TEST_LIBDIR "/plugins/nbdkit-null-plugin.so"});
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().message().find("this is a plugin, not a filter"), std::string::npos);
}

TEST_F(ModulesTest, ADebugFlagThatNobodyHasIsAWarning) {
  options.debug_flags = {{"null", "no.such", 1}, {"other", "flag", 1}};
  ASSERT_TRUE(load("null").ok());
  EXPECT_NE(log.text.find("global variable called null_debug_no_such"), std::string::npos);
  EXPECT_NE(log.text.find("debug flag -D other.flag was not used"), std::string::npos);
}

}  // namespace
}  // namespace nbdkit
