// SPDX-License-Identifier: BSD-3-Clause
// What is asked when a device is opened, and what is assumed when it cannot be.

#include <fmt/format.h>

#include "plugin_host/fixture_test.h"

namespace nbdkit {
namespace {

struct Opening : HostFixture {
  void begin(Settings settings, const char* without = "", const char* name = "probe-v2") {
    client.reset();
    set_environment("PROBE_WITHOUT", without);
    ASSERT_EQ(message_of(start(probe(name), settings)), "");
    clear_trace();
  }
  const Properties& properties() {
    client = connect();
    return client->properties();
  }
  Result<void> try_open() {
    client = new_client();
    return client->open(*plugin);
  }
  ~Opening() override { client.reset(); }

  std::unique_ptr<Client> client;
};

TEST_F(Opening, EverythingThePluginSaysIsPassedOn) {
  begin({{"size", "8M"}, {"block", "512:4096:65536"}, {"answer", "is_rotational:1"}});
  const Properties& found = properties();
  EXPECT_EQ(found.size, 8u << 20);
  EXPECT_TRUE(found.can_write);
  EXPECT_TRUE(found.can_flush);
  EXPECT_TRUE(found.can_fua);
  EXPECT_TRUE(found.can_trim);
  EXPECT_TRUE(found.can_fast_zero);
  EXPECT_TRUE(found.can_cache);
  EXPECT_TRUE(found.can_extents);
  EXPECT_TRUE(found.can_multi_conn);
  EXPECT_TRUE(found.is_rotational);
  EXPECT_EQ(found.block_size.minimum, 512u);
  EXPECT_EQ(found.block_size.preferred, 4096u);
  EXPECT_EQ(found.block_size.maximum, 65536u);
  EXPECT_EQ(found.description, "a probe");
}

TEST_F(Opening, EveryNumberButMinusOneIsYes) {
  begin({{"answer", "can_write:42"}, {"answer", "can_flush:-2"}, {"answer", "can_trim:0"}});
  EXPECT_TRUE(properties().can_write);
  EXPECT_TRUE(client->properties().can_flush);
  EXPECT_FALSE(client->properties().can_trim);
}

TEST_F(Opening, WithoutQuestionsTheFunctionsThatAreThereTell) {
  begin({},
        "can_write,can_flush,is_rotational,can_trim,can_zero,can_fast_zero,can_extents,can_fua,"
        "can_multi_conn,can_cache,export_description,block_size");
  const Properties& found = properties();
  EXPECT_TRUE(found.can_write);
  EXPECT_TRUE(found.can_flush);
  EXPECT_TRUE(found.can_trim);
  EXPECT_TRUE(found.can_extents);
  EXPECT_TRUE(found.can_cache);
  EXPECT_TRUE(found.can_fua);         // By flushing.
  EXPECT_FALSE(found.can_fast_zero);  // Nobody promised it.
  EXPECT_FALSE(found.can_multi_conn);
  EXPECT_FALSE(found.is_rotational);
  EXPECT_FALSE(found.block_size.known());
  EXPECT_EQ(found.description, "");
}

TEST_F(Opening, WithoutFunctionsThereIsOnlyReading) {
  begin({},
        "can_write,can_flush,is_rotational,can_trim,can_zero,can_fast_zero,can_extents,can_fua,"
        "can_multi_conn,can_cache,pwrite,flush,trim,zero,extents,cache");
  const Properties& found = properties();
  EXPECT_FALSE(found.can_write);
  EXPECT_FALSE(found.can_flush);
  EXPECT_FALSE(found.can_trim);
  EXPECT_FALSE(found.can_fast_zero);
  EXPECT_FALSE(found.can_fua);
  EXPECT_FALSE(found.can_extents);
  EXPECT_FALSE(found.can_cache);
  // One extent of data is always true.
  auto extents = client->extents(512, 1024);
  ASSERT_EQ(extents.value().size(), 1u);
  EXPECT_EQ(extents.value()[0].length, 1024u);
  EXPECT_EQ(extents.value()[0].type, ExtentType::data);
  EXPECT_EQ(client->write(0, "x").error().code, std::errc::read_only_file_system);
  EXPECT_EQ(client->zero(0, 1).error().code, std::errc::read_only_file_system);
  EXPECT_EQ(client->flush().error().code, std::errc::invalid_argument);
  EXPECT_EQ(client->trim(0, 1).error().code, std::errc::invalid_argument);
}

TEST_F(Opening, WithoutAFunctionForZeroesFastOnesFailFast) {
  begin({}, "zero,can_zero,can_fast_zero");
  EXPECT_TRUE(properties().can_fast_zero);
  EXPECT_EQ(client->zero(0, 512, RequestFlags::fast_zero).error().code, std::errc::not_supported);
}

TEST_F(Opening, ReadOnlyNothingAboutWritingIsAsked) {
  begin({{"fail", "can_write:text:0"}});
  client = connect("", true);
  EXPECT_FALSE(client->properties().can_write);
  EXPECT_FALSE(client->properties().can_trim);
  EXPECT_FALSE(client->properties().can_fua);
  EXPECT_FALSE(client->properties().can_fast_zero);
  EXPECT_EQ(trace(), "open 1\n");
}

TEST_F(Opening, FuaByFlushingNeedsAFlush) {
  begin({{"answer", "can_fua:1"}}, "flush,can_flush");
  EXPECT_FALSE(properties().can_fua);
}

TEST_F(Opening, OneConnectionAfterTheOtherCannotPromiseAnythingAboutSeveral) {
  begin({{"model", "0"}});
  EXPECT_FALSE(properties().can_multi_conn);
}

TEST_F(Opening, EveryQuestionThatFailsEndsTheOpeningInThePluginsWords) {
  for (const char* question :
       {"get_size", "block_size", "can_write", "can_flush", "is_rotational", "can_trim", "can_zero",
        "can_fast_zero", "can_extents", "can_fua", "can_multi_conn", "can_cache"}) {
    begin({{"fail", fmt::format("{}:text:0", question)}});
    EXPECT_EQ(message_of(try_open()), fmt::format("probe: {} is told to fail", question));
    EXPECT_EQ(trace(), "open 0\nclose\n") << question;
  }
}

TEST_F(Opening, AnOpeningThatFailsIsNotClosed) {
  begin({{"fail", "open:text:0"}});
  EXPECT_EQ(message_of(try_open()), "probe: open is told to fail");
  EXPECT_EQ(trace(), "open 0\n");
  EXPECT_EQ(log.errors(), "");  // Whoever gets the Error tells it.
}

TEST_F(Opening, AnOpeningThatFailsWithoutWordsHasTheErrors) {
  begin({{"fail", "open:set:13"}});
  Result<void> opened = try_open();
  EXPECT_EQ(message_of(opened), "open failed: Permission denied");
  EXPECT_EQ(opened.error().code, std::errc::permission_denied);
}

TEST_F(Opening, ANegativeSizeIsRefused) {
  begin({{"answer", "get_size:-5"}});
  EXPECT_EQ(message_of(try_open()), "get_size gave a negative size (-5)");
}

TEST_F(Opening, AnUnknownModeIsRefused) {
  begin({{"answer", "can_fua:3"}});
  EXPECT_EQ(message_of(try_open()), "can_fua gave 3");
  begin({{"answer", "can_cache:-7"}});
  EXPECT_EQ(message_of(try_open()), "can_cache gave -7");
}

TEST_F(Opening, BlockSizesThatNoClientCouldKeepAreRefused) {
  for (const char* good :
       {"0:0:0", "1:512:4294967295", "65536:33554432:33554432", "512:512:1536"}) {
    begin({{"block", good}});
    EXPECT_EQ(message_of(try_open()), "") << good;
  }
  for (const char* bad :
       {"0:512:512", "3:512:3072", "131072:131072:131072", "1:256:65536", "1:67108864:67108864",
        "1:1000:65536", "512:4096:5000", "4096:512:65536", "512:4096:1024"}) {
    begin({{"block", bad}});
    EXPECT_TRUE(message_of(try_open()).starts_with("block_size gave")) << bad;
  }
}

TEST_F(Opening, TheExportsAreThoseOfThePlugin) {
  begin({});
  client = new_client();
  client->context().tls = true;
  auto exports = loop.run(plugin->list_exports(client->context()));
  ASSERT_EQ(exports.value().size(), 2u);
  EXPECT_EQ(exports.value()[0].name, "the-first");
  EXPECT_EQ(exports.value()[1].name, "second");
  EXPECT_EQ(exports.value()[1].description, "its description");
  EXPECT_EQ(trace(), "list_exports 0 1\ndefault_export 0 1\n");
  EXPECT_EQ(loop.run(plugin->default_export(client->context())).value(), "the-first");
}

TEST_F(Opening, WithoutAListTheDefaultIsTheOnlyExport) {
  begin({}, "list_exports");
  client = new_client();
  auto exports = loop.run(plugin->list_exports(client->context()));
  ASSERT_EQ(exports.value().size(), 1u);
  EXPECT_EQ(exports.value()[0].name, "the-first");
}

TEST_F(Opening, ADefaultThatThePluginRefusesIsAnErrorAndNotListed) {
  begin({{"fail", "default_export:set:2"}});
  client = new_client();
  auto name = loop.run(plugin->default_export(client->context()));
  EXPECT_EQ(name.error().code, std::errc::no_such_file_or_directory);
  EXPECT_EQ(loop.run(plugin->list_exports(client->context())).value().size(), 1u);
}

// The interface in C has no word for it.
TEST_F(Opening, WhoAsksForTlsAndForbidsToOpenWithoutItNeedsIt) {
  begin({{"needs-tls", "1"}});
  Result<void> refused = try_open();
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, kNeedsTls);
  EXPECT_EQ(refused.error().detail(), "probe: only with TLS");
  client = new_client();
  client->context().tls = true;
  EXPECT_EQ(message_of(client->open(*plugin)), "");
  begin({{"needs-tls", "1"}, {"fail", "open:set:2"}});
  EXPECT_EQ(try_open().error().code, std::errc::no_such_file_or_directory);
  begin({{"fail", "open:set:1"}});
  EXPECT_EQ(try_open().error().code, std::errc::operation_not_permitted) << "it has not asked";
}

TEST_F(Opening, PreconnectCanRefuseAClient) {
  begin({{"fail", "preconnect:text:0"}});
  client = new_client("", true);
  Result<void> met = loop.run(plugin->preconnect(client->context()));
  EXPECT_EQ(message_of(met), "probe: preconnect is told to fail");
  EXPECT_EQ(trace(), "preconnect 1\n");
}

}  // namespace
}  // namespace nbdkit
