// SPDX-License-Identifier: BSD-3-Clause
// What is loaded, what is refused and in which words, and the calls before the first client.

#include <dlfcn.h>
#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>

#include "block/native_module.h"
#include "plugin_host/fixture_test.h"

namespace nbdkit {
namespace {

using Loading = HostFixture;

bool contains(std::string_view text, std::string_view part) {
  return text.find(part) != std::string_view::npos;
}

TEST_F(Loading, AMissingFileIsNamed) {
  PluginHost own(log, hooks);
  auto loaded = load_c_plugin(own, "/nowhere/plugin.so");
  ASSERT_FALSE(loaded.ok());
  EXPECT_EQ(loaded.error().message(),
            "cannot open plugin '/nowhere/plugin.so': cannot open shared object file: No such "
            "file or directory");
}

TEST_F(Loading, AMissingSymbolIsNamed) {
  PluginHost own(log, hooks);
  auto loaded = load_c_plugin(own, probe("undefined"));
  ASSERT_FALSE(loaded.ok());
  EXPECT_TRUE(contains(loaded.error().message(), "undefined symbol: nbdkit_no_such_function"))
      << loaded.error().message();
}

TEST_F(Loading, WhatIsNoPluginIsRefused) {
  PluginHost own(log, hooks);
  auto loaded = load_c_plugin(own, "libm.so.6");
  ASSERT_FALSE(loaded.ok());
  EXPECT_TRUE(contains(loaded.error().message(), "not an nbdkit plugin"));
}

TEST_F(Loading, AnotherVersionOfTheInterfaceIsRefused) {
  set_environment("PROBE_API_VERSION", "3");
  Result<void> loaded = load(probe("probe-v2"));
  EXPECT_TRUE(contains(message_of(loaded), "needs version 3")) << message_of(loaded);
}

TEST_F(Loading, ABadNameIsRefused) {
  for (const char* name : {"", "-probe", "a_b", "a b"}) {
    set_environment("PROBE_NAME", name);
    EXPECT_TRUE(contains(message_of(load(probe("probe-v2"))), "letters, digits")) << name;
  }
}

TEST_F(Loading, APluginWithoutWhatItMustHaveIsRefused) {
  for (const char* name : {"open", "get_size", "pread"}) {
    set_environment("PROBE_WITHOUT", name);
    EXPECT_TRUE(
        contains(message_of(load(probe("probe-v2"))),
                 fmt::format("must have {} {} function", name[0] == 'o' ? "an" : "a", name)))
        << name;
  }
}

TEST_F(Loading, AnUnknownThreadModelIsRefused) {
  set_environment("PROBE_MODEL", "4");
  EXPECT_TRUE(contains(message_of(load(probe("probe-v2"))), "unknown thread model (4)"));
}

TEST_F(Loading, APluginThatGivesUpIsRefused) {
  set_environment("PROBE_NULL", "1");
  EXPECT_TRUE(contains(message_of(load(probe("probe-v2"))), "plugin_init failed"));
}

TEST_F(Loading, NoConstructorRunsTwiceOnTheWayFromNativeToC) {
  std::string path = probe("constructed");
  Result<LoadedModule> native = load_native_module(path);
  ASSERT_FALSE(native.ok());
  EXPECT_EQ(native.error().code, std::errc::not_supported);
  PluginHost own(log, hooks);
  auto loaded = load_c_plugin(own, path);
  ASSERT_TRUE(loaded.ok()) << loaded.error().message();
  EXPECT_EQ(loaded.value()->version(), "constructed 1 times");
  // For all to see, which bindings of other languages need.
  EXPECT_NE(::dlsym(RTLD_DEFAULT, "constructed_times"), nullptr);
}

TEST_F(Loading, TheExamplesOfTheHeadersRun) {
  ASSERT_EQ(message_of(start(probe("example-c"), {})), "");
  auto c = connect();
  EXPECT_EQ(message_of(c->write(0, "hi")), "");
  EXPECT_EQ(c->read(0, 2).value(), "hi");
  c.reset();
  ASSERT_EQ(message_of(start(probe("example-cxx"), {})), "");
  auto cxx = connect();
  EXPECT_EQ(cxx->read(0, 2).value(), "xx");
  EXPECT_FALSE(cxx->properties().can_write);
}

// The struct of the first release ends before zero().
TEST_F(Loading, APluginOfTheFirstReleaseIsServed) {
  set_environment("PROBE_STRUCT_SIZE", "176");
  ASSERT_EQ(message_of(start(probe("probe-v1"), {{"size", "4096"}})), "");
  auto client = connect();
  EXPECT_EQ(message_of(client->write(0, "hello", RequestFlags::fua)), "");
  EXPECT_EQ(message_of(client->zero(1, 2)), "");
  EXPECT_EQ(client->read(0, 5).value(), std::string("h\0\0lo", 5));
  EXPECT_TRUE(client->properties().can_trim);
  EXPECT_FALSE(client->properties().can_multi_conn);
  EXPECT_EQ(plugin->magic_key(), "");
}

TEST_F(Loading, AStructFromTheFutureIsServed) {
  set_environment("PROBE_STRUCT_SIZE", "512");
  EXPECT_EQ(message_of(start(probe("probe-v2"), {})), "");
}

TEST_F(Loading, TheTextsOfThePluginAreThoseOfTheLayer) {
  ASSERT_EQ(message_of(load(probe("probe-v2"))), "");
  EXPECT_EQ(plugin->name(), "probe");
  EXPECT_EQ(plugin->long_name(), "a probe");
  EXPECT_EQ(plugin->version(), "1.2.3");
  EXPECT_EQ(plugin->description(), "for tests");
  EXPECT_EQ(plugin->config_help(), "size=SIZE");
  EXPECT_EQ(plugin->magic_key(), "size");
  EXPECT_EQ(plugin->contract().survives, Survives::nothing);
  plugin->set_survives(Survives::flushed);
  EXPECT_EQ(plugin->contract().survives, Survives::flushed);
}

TEST_F(Loading, DebugFlagsAreSetBeforeThePluginIsLoaded) {
  ASSERT_EQ(message_of(open_module(probe("probe-v2"))), "");
  EXPECT_TRUE(plugin->set_debug_flag("flag.one", 7));
  EXPECT_FALSE(plugin->set_debug_flag("flag.two", 7));
  plugin->attach(environment);
  EXPECT_EQ(trace(), "load 7\n");
}

TEST_F(Loading, TheServersOwnDebugFlagsAreItsSymbols) {
  auto* flag = static_cast<int*>(::dlsym(RTLD_DEFAULT, "nbdkit_debug_backend_datapath"));
  ASSERT_NE(flag, nullptr);
  int before = *flag;
  EXPECT_TRUE(set_debug_variable(RTLD_DEFAULT, "nbdkit", "backend.datapath", 5));
  EXPECT_EQ(*flag, 5);
  *flag = before;
}

TEST_F(Loading, StdinAndStdoutAreThePluginsUntilItIsReady) {
  ASSERT_EQ(message_of(start(probe("probe-v2"), {})), "");
  EXPECT_EQ(trace(), "load 0\nget_ready stdio_safe=1\nafter_fork stdio_safe=0\n");
}

TEST_F(Loading, StdinAndStdoutAreNeverThePluginsWhenTheyAreTheClients) {
  hooks.stdio_is_client = true;
  ASSERT_EQ(message_of(start(probe("probe-v2"), {})), "");
  EXPECT_TRUE(contains(trace(), "get_ready stdio_safe=0"));
}

TEST_F(Loading, AFailureToStartIsToldOnceAndInThePluginsWords) {
  for (const char* callback : {"config", "config_complete", "get_ready", "after_fork"}) {
    Result<void> started = start(probe("probe-v2"), {{"fail", fmt::format("{}:text:0", callback)}});
    EXPECT_EQ(message_of(started), fmt::format("probe: {} is told to fail", callback));
    EXPECT_EQ(log.errors(), "");
  }
}

TEST_F(Loading, AFailureToStartWithoutWordsNamesTheFunction) {
  EXPECT_EQ(message_of(start(probe("probe-v2"), {{"fail", "thread_model:set:12"}})),
            "thread_model failed: Cannot allocate memory");
}

TEST_F(Loading, AMessageBeforeAFailureIsLogged) {
  Result<void> started = start(probe("probe-v2"), {{"nonsense", "1"}});
  EXPECT_EQ(message_of(started), "probe: unknown parameter 'nonsense'");
}

TEST_F(Loading, AParameterForAPluginWithoutAnyIsRefused) {
  set_environment("PROBE_WITHOUT", "config");
  Result<void> started = start(probe("probe-v2"), {{"size", "1"}});
  EXPECT_EQ(message_of(started), "size=1: this plugin has no parameters");
}

TEST_F(Loading, APluginThatExitsIsHeardFirst) {
  EXPECT_EXIT(
      {
        Log real("nbdkit", false);
        PluginHost own(real, hooks);
        auto loaded = load_c_plugin(own, probe("probe-v2"));
        loaded.value()->attach(environment);
        (void)loaded.value()->configure("exit", "");
      },
      testing::ExitedWithCode(3), "nbdkit: error: probe: the last words");
}

TEST_F(Loading, ThePluginCanOnlyLowerItsThreadModel) {
  set_environment("PROBE_MODEL", "2");
  ASSERT_EQ(message_of(start(probe("probe-v2"), {{"model", "3"}})), "");
  EXPECT_EQ(plugin->thread_model(), ThreadModel::serialize_requests);
  ASSERT_EQ(message_of(start(probe("probe-v2"), {{"model", "1"}})), "");
  EXPECT_EQ(plugin->thread_model(), ThreadModel::serialize_all_requests);
  EXPECT_EQ(message_of(start(probe("probe-v2"), {{"model", "9"}})),
            "the plugin chose an unknown thread model (9)");
}

std::string output_of(const std::string& command) {
  std::string text;
  std::FILE* pipe = ::popen(command.c_str(), "r");
  char piece[4096];
  while (std::size_t got = std::fread(piece, 1, sizeof piece, pipe)) text.append(piece, got);
  ::pclose(pipe);
  return text;
}

// What tools read must be the same from both servers.
TEST_F(Loading, DumpsAreThoseOfTheOtherServer) {
  for (const char* name :
       {"file", "split", "memory", "data", "curl", "sh", "eval", "partitioning"}) {
    ASSERT_EQ(message_of(load(debian(name))), "");
    std::string theirs = output_of(fmt::format("nbdkit {} --dump-plugin", name));
    std::string ours = fmt::format("path={}\nname={}\nversion={}\n{}", debian(name), plugin->name(),
                                   plugin->version(), plugin->dump());
    EXPECT_EQ(ours, theirs);
  }
}

TEST_F(Loading, ADumpEndsWithWhatThePluginPrints) {
  ASSERT_EQ(message_of(load(probe("probe-v2"))), "");
  ASSERT_EQ(message_of(configure({{"model", "1"}})), "");
  std::string dump = plugin->dump();
  EXPECT_TRUE(contains(dump, "max_thread_model=parallel\nthread_model=serialize_all_requests\n"));
  EXPECT_TRUE(dump.ends_with("has_cache=1\nprobe_says=hello\n")) << dump;
}

}  // namespace
}  // namespace nbdkit
