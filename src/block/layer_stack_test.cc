// SPDX-License-Identifier: BSD-3-Clause
#include "block/layer_stack.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

#include "support/test_loop.h"

namespace nbdkit {
namespace {

class Disk final : public BlockDevice {
 public:
  Disk(Properties properties, std::string& log) : BlockDevice(std::move(properties)), log_(log) {}
  Task<void> pread(Request, Reply&) override { return Result<void>(); }
  Task<void> close() override {
    log_ += "closed ";
    return Result<void>();
  }

 private:
  std::string& log_;
};

// Notes each call as "NAME.CALL ".
template <typename Base>
class Noting : public Base {
 public:
  Noting(std::string name, std::string& log) : name_(std::move(name)), log_(log) {}

  Result<bool> configure(std::string_view key, std::string_view value) override {
    (void)note(std::string(key));
    if (value == "bad") return Error(std::errc::invalid_argument, "bad value");
    return key == name_;
  }
  Result<void> configured() override { return note("configured"); }
  Result<void> get_ready() override { return note("get_ready"); }
  Result<void> after_fork() override { return note("after_fork"); }
  void cleanup() override { (void)note("cleanup"); }
  Contract contract() const override { return declared; }

  Contract declared;
  std::string fails_at;

 protected:
  std::string& log() { return log_; }

 private:
  Result<void> note(std::string what) {
    log_ += name_ + "." + what + " ";
    if (what != fails_at) return {};
    return Error(std::errc::io_error, "it failed");
  }
  const std::string name_;
  std::string& log_;
};

class TestPlugin final : public Noting<Layer> {
 public:
  using Noting<Layer>::Noting;
  Task<DevicePtr> open(Context&) override {
    Properties properties;
    properties.can_multi_conn = true;
    return Result<DevicePtr>(std::make_unique<Disk>(std::move(properties), log()));
  }
};
class TestFilter final : public Noting<FilterLayer> {
 public:
  using Noting<FilterLayer>::Noting;
  bool refuses = false;

 protected:
  Task<DevicePtr> wrap(Context& context, DevicePtr& next) override {
    if (refuses) return Result<DevicePtr>(Error(std::errc::invalid_argument, "not this one"));
    return FilterLayer::wrap(context, next);
  }
};

struct LayerStackTest : testing::Test {
  LayerStackTest() {
    auto plugin_layer = std::make_unique<TestPlugin>("plugin", log);
    auto inner_layer = std::make_unique<TestFilter>("inner", log);
    auto outer_layer = std::make_unique<TestFilter>("outer", log);
    plugin = plugin_layer.get();
    inner = inner_layer.get();
    outer = outer_layer.get();
    stack.add("plugin", "/plugin.so", std::move(plugin_layer));
    stack.add_filter("inner", "/inner.so", std::move(inner_layer));
    stack.add_filter("outer", "/outer.so", std::move(outer_layer));
    plugin->declared = {.survives = Survives::durable, .shared_open = true, .swap_fit = true};
    inner->declared = outer->declared = {.survives = Survives::durable,
                                         .shared_open = true,
                                         .transparent = true,
                                         .multi_conn = MultiConn::as_below,
                                         .swap_fit = true};
  }
  Result<DevicePtr> open() {
    context.read_only = false;
    return loop.run(stack.top().open(context));
  }

  std::string log;
  Log sink{"test", false};
  Environment environment{sink, UniqueFd()};
  TestLoop loop;
  Gate gate{loop};
  Context context{loop, gate, sink, 1};
  LayerStack stack{environment};
  TestPlugin* plugin;
  TestFilter* inner;
  TestFilter* outer;
};

TEST_F(LayerStackTest, AParameterIsOfferedFromTheTopUntilItIsTaken) {
  EXPECT_TRUE(stack.configure("inner", "1").ok());
  EXPECT_EQ(log, "outer.inner inner.inner ");
  EXPECT_TRUE(stack.configure("plugin", "1").ok());
  EXPECT_EQ(log, "outer.inner inner.inner outer.plugin inner.plugin plugin.plugin ");
}

TEST_F(LayerStackTest, AParameterThatNobodyTakesIsNamed) {
  Result<void> result = stack.configure("other", "1");
  ASSERT_FALSE(result.ok());
  EXPECT_NE(result.error().message().find("plugin: unknown parameter 'other'"), std::string::npos);
}

TEST_F(LayerStackTest, AnErrorNamesTheLayerAndEndsTheOffering) {
  Result<void> result = stack.configure("inner", "bad");
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().message(), "outer: bad value");
  EXPECT_EQ(log, "outer.inner ");
}

TEST_F(LayerStackTest, EveryStepGoesFromTheTopToThePlugin) {
  EXPECT_TRUE(stack.configured().ok());
  EXPECT_EQ(log, "outer.configured inner.configured plugin.configured ");
  log.clear();
  EXPECT_TRUE(stack.get_ready().ok());
  EXPECT_TRUE(stack.after_fork().ok());
  stack.cleanup();
  EXPECT_EQ(log,
            "outer.get_ready inner.get_ready plugin.get_ready "
            "outer.after_fork inner.after_fork plugin.after_fork "
            "outer.cleanup inner.cleanup plugin.cleanup ");
}

TEST_F(LayerStackTest, AFailedStepNamesTheLayerAndStops) {
  inner->fails_at = "get_ready";
  Result<void> result = stack.get_ready();
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().message(), "inner: it failed");
  EXPECT_EQ(log, "outer.get_ready inner.get_ready ");
}

TEST_F(LayerStackTest, AStackIsAsWeakAsItsWeakestLayer) {
  EXPECT_EQ(stack.contract().survives, Survives::durable);
  EXPECT_TRUE(stack.contract().shared_open && stack.contract().transparent);
  EXPECT_TRUE(stack.contract().swap_fit);
  EXPECT_EQ(stack.contract().multi_conn, MultiConn::as_below);
  inner->declared.survives = Survives::flushed;
  EXPECT_EQ(stack.contract().survives, Survives::flushed);
  plugin->declared.survives = Survives::nothing;
  EXPECT_EQ(stack.contract().survives, Survives::nothing);
  outer->declared.transparent = false;
  EXPECT_FALSE(stack.contract().transparent);
  inner->declared.swap_fit = false;
  EXPECT_FALSE(stack.contract().swap_fit);
  plugin->declared.shared_open = false;
  EXPECT_FALSE(stack.contract().shared_open);
  outer->declared.multi_conn = MultiConn::no;
  EXPECT_EQ(stack.contract().multi_conn, MultiConn::no);
}

TEST_F(LayerStackTest, TheMappingIsThatOfFiltersThatAreNotTransparent) {
  EXPECT_TRUE(stack.configure("inner", "1").ok());
  EXPECT_TRUE(stack.configure("inner", "2").ok());
  EXPECT_TRUE(stack.configure("plugin", "3").ok());
  EXPECT_EQ(stack.mapping(), "");
  inner->declared.transparent = false;
  EXPECT_EQ(stack.mapping(), "inner(inner=1,inner=2)");
  outer->declared.transparent = false;
  EXPECT_EQ(stack.mapping(), "outer() inner(inner=1,inner=2)");
}

TEST_F(LayerStackTest, AFilterThatSaysNoToMultiConnIsBelieved) {
  Result<DevicePtr> device = open();
  EXPECT_TRUE(device.value()->properties().can_multi_conn);
  inner->declared.multi_conn = MultiConn::no;
  device = open();
  EXPECT_FALSE(device.value()->properties().can_multi_conn);
}

TEST_F(LayerStackTest, WhatIsBelowIsClosedWhenAFilterRefusesIt) {
  outer->refuses = true;
  Result<DevicePtr> device = open();
  ASSERT_FALSE(device.ok());
  EXPECT_EQ(device.error().detail(), "not this one");
  EXPECT_EQ(log, "closed ");
}

TEST_F(LayerStackTest, APluginWithoutExportsHasTheDefaultOne) {
  auto exports = loop.run(stack.top().list_exports(context));
  ASSERT_EQ(exports.value().size(), 1u);
  EXPECT_EQ(exports.value()[0].name, "");
}

}  // namespace
}  // namespace nbdkit
