// SPDX-License-Identifier: BSD-3-Clause
// What the plugin is called with for each request, what is done in its place, and what its failures
// become.

#include <fmt/format.h>

#include "plugin_host/fixture_test.h"

namespace nbdkit {
namespace {

constexpr std::uint64_t kGiB = std::uint64_t{1} << 30;

struct Requests : HostFixture {
  void begin(Settings settings, const char* without = "", const char* name = "probe-v2") {
    client.reset();
    set_environment("PROBE_WITHOUT", without);
    ASSERT_EQ(message_of(start(probe(name), settings)), "");
    client = connect();
    clear_trace();
  }
  ~Requests() override { client.reset(); }

  std::unique_ptr<Client> client;
};

TEST_F(Requests, FlagsGoToThePluginThatKnowsThem) {
  begin({});
  EXPECT_EQ(message_of(client->write(0, "hello", RequestFlags::fua)), "");
  EXPECT_EQ(client->read(0, 5).value(), "hello");
  EXPECT_EQ(message_of(client->trim(512, 512, RequestFlags::fua)), "");
  EXPECT_EQ(message_of(client->zero(
                1, 2, RequestFlags::fua | RequestFlags::may_trim | RequestFlags::fast_zero)),
            "");
  EXPECT_EQ(message_of(client->flush()), "");
  EXPECT_EQ(message_of(client->cache(0, 4096)), "");
  EXPECT_EQ(trace(),
            "pwrite 5 0 2\npread 5 0 0\ntrim 512 512 2\nzero 2 1 11\nflush 0\ncache 4096 0 0\n");
}

TEST_F(Requests, DurableWritesOfVersion1AreFlushed) {
  begin({}, "", "probe-v1");
  EXPECT_EQ(message_of(client->write(0, "hello", RequestFlags::fua)), "");
  EXPECT_EQ(message_of(client->trim(512, 512, RequestFlags::fua)), "");
  EXPECT_EQ(message_of(client->zero(1, 2, RequestFlags::fua | RequestFlags::may_trim)), "");
  EXPECT_EQ(message_of(client->write(0, "hello")), "");
  EXPECT_EQ(trace(),
            "pwrite 5 0 0\nflush 0\ntrim 512 512 0\nflush 0\nzero 2 1 1\nflush 0\npwrite 5 0 0\n");
  EXPECT_EQ(client->zero(0, 1, RequestFlags::fast_zero).error().code, std::errc::not_supported);
}

TEST_F(Requests, DurableWritesAreFlushedWhenThePluginWantsIt) {
  begin({{"answer", "can_fua:1"}});
  EXPECT_EQ(message_of(client->write(0, "hello", RequestFlags::fua)), "");
  EXPECT_EQ(trace(), "pwrite 5 0 0\nflush 0\n");
}

TEST_F(Requests, AFlushThatFailsMakesTheDurableWriteFail) {
  begin({{"answer", "can_fua:1"}, {"fail", "flush:set:5"}});
  EXPECT_EQ(message_of(client->write(0, "hello")), "");
  EXPECT_EQ(client->write(0, "hello", RequestFlags::fua).error().code, std::errc::io_error);
}

TEST_F(Requests, AWriteThatFailsIsNotFlushed) {
  begin({{"answer", "can_fua:1"}, {"fail", "pwrite:set:28"}});
  EXPECT_FALSE(client->write(0, "hello", RequestFlags::fua).ok());
  EXPECT_EQ(trace(), "pwrite 5 0 0\n");
}

TEST_F(Requests, ZeroesAreWrittenWhenThePluginCannotMakeThem) {
  begin({{"answer", "can_zero:0"}});
  EXPECT_EQ(message_of(client->write(0, "hello")), "");
  EXPECT_EQ(message_of(client->zero(1, 3, RequestFlags::fua | RequestFlags::may_trim)), "");
  EXPECT_EQ(client->read(0, 5).value(), std::string("h\0\0\0o", 5));
  EXPECT_EQ(trace(), "pwrite 5 0 0\npwrite 3 1 2\npread 5 0 0\n");
  EXPECT_EQ(client->zero(0, 1, RequestFlags::fast_zero).error().code, std::errc::not_supported);
}

TEST_F(Requests, ZeroesAreWrittenWhenThePluginSaysSoAtTheTime) {
  begin({{"fail", "zero:set:95"}, {"answer", "can_fua:1"}});
  EXPECT_EQ(message_of(client->write(0, "hello")), "");
  EXPECT_EQ(message_of(client->zero(1, 3, RequestFlags::fua)), "");
  EXPECT_EQ(client->read(0, 5).value(), std::string("h\0\0\0o", 5));
  EXPECT_EQ(trace(), "pwrite 5 0 0\nzero 3 1 0\npwrite 3 1 0\nflush 0\npread 5 0 0\n");
  clear_trace();
  EXPECT_EQ(client->zero(0, 1, RequestFlags::fast_zero).error().code, std::errc::not_supported);
  EXPECT_EQ(trace(), "zero 1 0 8\n");  // Not as slow as writing.
}

TEST_F(Requests, OtherFailuresOfZeroAreFailures) {
  begin({{"fail", "zero:set:28"}});
  EXPECT_EQ(client->zero(0, 512).error().code, std::errc::no_space_on_device);
  EXPECT_EQ(trace(), "zero 512 0 0\n");
}

TEST_F(Requests, ManyZeroesAreWrittenInPiecesThatAdvance) {
  begin({{"size", "1G"}, {"fail", "zero:set:95"}});
  EXPECT_EQ(message_of(client->zero(512, 150u << 20)), "");
  EXPECT_EQ(trace(),
            "zero 157286400 512 0\npwrite 67108864 512 0\npwrite 67108864 67109376 0\n"
            "pwrite 23068672 134218240 0\n");
}

TEST_F(Requests, WrittenZeroesKeepToTheLargestBlock) {
  begin({{"answer", "can_zero:0"}, {"block", "512:4096:131072"}});
  EXPECT_EQ(message_of(client->zero(0, 200 * 1024)), "");
  EXPECT_EQ(trace(), "pwrite 131072 0 0\npwrite 73728 131072 0\n");
}

TEST_F(Requests, LongRequestsGoInSeveralCalls) {
  begin({{"size", "1T"}});
  EXPECT_EQ(message_of(client->zero(0, 5 * kGiB)), "");
  EXPECT_EQ(message_of(client->trim(kGiB, 5 * kGiB)), "");
  EXPECT_EQ(message_of(client->cache(0, 5 * kGiB)), "");
  EXPECT_EQ(trace(),
            "zero 4294901760 0 0\nzero 1073807360 4294901760 0\n"
            "trim 4294901760 1073741824 0\ntrim 1073807360 5368643584 0\n"
            "cache 4294901760 0 0\ncache 1073807360 4294901760 0\n");
  clear_trace();
  EXPECT_EQ(client->read(1 << 20, 70u << 20).value().size(), 70u << 20);
  EXPECT_EQ(trace(), "pread 67108864 1048576 0\npread 6291456 68157440 0\n");
}

TEST_F(Requests, CachingIsReadingWhenThePluginWantsIt) {
  begin({{"size", "64M"}, {"answer", "can_cache:1"}});
  EXPECT_EQ(message_of(client->cache(512, 5u << 20)), "");
  EXPECT_EQ(trace(), "pread 4194304 512 0\npread 1048576 4194816 0\n");
}

TEST_F(Requests, CachingWithoutAFunctionIsNothingToDo) {
  begin({}, "cache");
  EXPECT_TRUE(client->properties().can_cache);
  EXPECT_EQ(message_of(client->cache(0, 512)), "");
  EXPECT_EQ(trace(), "");
}

TEST_F(Requests, CachingIsRefusedWhenThePluginHasNone) {
  begin({{"answer", "can_cache:0"}});
  EXPECT_EQ(client->cache(0, 512).error().code, std::errc::invalid_argument);
}

TEST_F(Requests, ExtentsAreCutAndMerged) {
  begin({{"size", "8192"}, {"extents", "0:1024:0,1024:512:3,1536:512:3,2048:100000:1"}});
  auto extents = client->extents(512, 4096, RequestFlags::one);
  ASSERT_EQ(extents.value().size(), 3u) << trace();
  EXPECT_EQ(extents.value()[0].offset, 512u);
  EXPECT_EQ(extents.value()[0].length, 512u);
  EXPECT_EQ(extents.value()[1].length, 1024u);
  EXPECT_EQ(extents.value()[1].type, ExtentType::hole_and_zero);
  EXPECT_EQ(extents.value()[2].length, 6144u);
  EXPECT_EQ(trace(), "extents 4096 512 4\n");
}

TEST_F(Requests, ExtentsWithAGapAreAnError) {
  begin({{"extents", "0:1024:0,2048:512:0"}});
  EXPECT_EQ(client->extents(0, 4096).error().code, std::errc::io_error);
  EXPECT_NE(log.errors().find("probe.1: nbdkit_add_extent: "), std::string::npos) << log.errors();
  set_environment("PROBE_PRESERVED", "1");
  client.reset();
  begin({{"extents", "512:1024:0"}});  // The first must cover the beginning of the request.
  EXPECT_EQ(client->extents(0, 4096).error().code, std::errc::result_out_of_range);
}

TEST_F(Requests, SuccessWithoutAnyExtentIsAnError) {
  begin({});
  EXPECT_EQ(client->extents(0, 4096).error().code, std::errc::invalid_argument);
}

TEST_F(Requests, ExtentsThatThePluginDoesNotKnowAreData) {
  begin({{"answer", "can_extents:0"}});
  EXPECT_FALSE(client->properties().can_extents);
  EXPECT_EQ(client->extents(0, 4096).value()[0].type, ExtentType::data);
  EXPECT_EQ(trace(), "");
}

// The rule for errors, one line of it a test.
TEST_F(Requests, TheErrorThatThePluginSetIsTheReply) {
  begin({{"fail", "pread:set:28"}});
  EXPECT_EQ(client->read(0, 512).error().code, std::errc::no_space_on_device);
}

TEST_F(Requests, ErrnoIsTheReplyOfAPluginThatKeepsIt) {
  set_environment("PROBE_PRESERVED", "1");
  begin({{"fail", "pwrite:errno:122"}});
  EXPECT_EQ(static_cast<int>(client->write(0, "x").error().code), EDQUOT);
}

TEST_F(Requests, ErrnoOfAPluginThatDoesNotKeepItIsNoReply) {
  begin({{"fail", "pwrite:errno:28"}});
  EXPECT_EQ(client->write(0, "x").error().code, std::errc::io_error);
}

TEST_F(Requests, WithoutAnyErrorTheReplyIsThatOfTheDisk) {
  set_environment("PROBE_PRESERVED", "1");
  begin({{"fail", "trim:text:0"}});
  Result<void> trimmed = client->trim(0, 512);
  EXPECT_EQ(trimmed.error().code, std::errc::io_error);
  EXPECT_EQ(trimmed.error().detail(), "");  // Logged, and not sent to the client.
  EXPECT_EQ(log.errors(), "probe.1: probe: trim is told to fail\n");
}

TEST_F(Requests, TheErrorOfACallIsForgottenBeforeTheNext) {
  begin({{"fail", "zero:set:28"}, {"size", "4096"}});
  EXPECT_EQ(client->zero(0, 512).error().code, std::errc::no_space_on_device);
  EXPECT_EQ(client->read(4096, 1).error().code, std::errc::io_error);
}

TEST_F(Requests, ThePluginCanAskWhoItServes) {
  set_environment("PROBE_WITHOUT", "");
  ASSERT_EQ(message_of(start(probe("probe-v2"), {{"do", "ask"}})), "");
  client = new_client("an export");
  client->context().tls = true;
  client->context().peer.uid = 1234;
  ASSERT_EQ(message_of(client->open(*plugin)), "");
  clear_trace();
  EXPECT_TRUE(client->read(0, 1).ok());
  EXPECT_EQ(trace(), "pread 1 0 0\nname=an export tls=1 uid=1234\n");
}

TEST_F(Requests, ThePluginCanEndTheConnectionAndTheServer) {
  struct Control final : ConnectionControl {
    void disconnect(bool force) override { said += fmt::format("disconnect {} ", force); }
    std::string said;
  };
  Control control;
  std::string& said = control.said;
  hooks.shutdown = [&] { said += "shutdown"; };
  begin({{"do", "end"}});
  client->context().control = &control;
  EXPECT_TRUE(client->read(0, 1).ok());
  EXPECT_EQ(said, "disconnect false shutdown");
}

}  // namespace
}  // namespace nbdkit
