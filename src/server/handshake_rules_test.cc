// SPDX-License-Identifier: BSD-3-Clause
#include "server/handshake_rules.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "support/stack.h"
#include "support/test_server.h"

namespace nbdkit {
namespace {

constexpr std::uint64_t kSize = 1 << 20;

struct HandshakeRulesTest : testing::Test {
  // A server that keeps to the rules as they are now.
  WireClient connect() {
    ServerOptions options;
    options.handshake = rules;
    server = std::make_unique<TestServer>(std::make_unique<ScriptedLayer>(kSize), options);
    return server->connect();
  }

  HandshakeRules rules;
  std::unique_ptr<TestServer> server;
};

TEST_F(HandshakeRulesTest, OldstyleIsAGreetingAndThenTheExport) {
  rules.oldstyle = true;
  WireClient client = connect();
  std::string greeting = client.receive(sizeof(OldstyleGreetingWire) + kExportNameZeroes);
  OldstyleGreetingWire wire;
  std::memcpy(&wire, greeting.data(), sizeof wire);
  EXPECT_EQ(wire.magic.get(), kGreetingMagic);
  EXPECT_EQ(wire.oldstyle_magic.get(), 0x00420281861253u);
  EXPECT_EQ(wire.size.get(), kSize);
  EXPECT_EQ(wire.handshake_flags.get(), 0);
  EXPECT_TRUE(wire.flags.get() & transmission_flag::kFlush);
  EXPECT_FALSE(wire.flags.get() & transmission_flag::kDontFragment);
  EXPECT_EQ(greeting.substr(sizeof wire), std::string(kExportNameZeroes, '\0'));
  EXPECT_EQ(client.write(512, "data").error, 0u);
  EXPECT_EQ(client.read(512, 4).data, "data");
}

// NBD protocol, "Client flags": the server must.
TEST_F(HandshakeRulesTest, FlagsThatAreNotOfferedEndTheConnection) {
  for (std::uint16_t offered : {0, 1, 2}) {
    rules.flags = offered;
    WireClient client = connect();
    EXPECT_EQ(client.greet(), offered);
    EXPECT_TRUE(client.at_end());
  }
}

TEST_F(HandshakeRulesTest, WithoutFixedNewstyleThereIsOnlyAName) {
  rules.flags = 0;
  WireClient client = connect();
  EXPECT_EQ(client.greet(0), 0);
  EXPECT_EQ(client.option(Option::list)[0].type, OptionReply::invalid);
  client.send_option(Option::export_name, "");
  client.receive(sizeof(ExportNameReplyWire) + kExportNameZeroes);
  EXPECT_EQ(client.read(0, 512).error, 0u);
}

TEST_F(HandshakeRulesTest, RepliesAreSimpleWhenChunksAreNotAllowed) {
  rules.chunks = false;
  WireClient client = connect();
  client.greet();
  EXPECT_EQ(client.option(Option::structured_reply)[0].type, OptionReply::unsupported);
  EXPECT_EQ(client.option(Option::extended_headers)[0].type, OptionReply::unsupported);
  EXPECT_EQ(
      client.option(Option::set_meta_context, WireClient::meta_data("", {"base:allocation"}))[0]
          .type,
      OptionReply::invalid);
  EXPECT_EQ(
      client.option(Option::list_meta_context, WireClient::meta_data("", {"base:allocation"}))[0]
          .type,
      OptionReply::meta_context);
}

TEST_F(HandshakeRulesTest, MetaContextsMayBeSwitchedOff) {
  rules.meta_contexts = false;
  WireClient client = connect();
  client.greet();
  EXPECT_EQ(client.option(Option::structured_reply)[0].type, OptionReply::ack);
  for (Option option : {Option::list_meta_context, Option::set_meta_context}) {
    EXPECT_EQ(client.option(option, WireClient::meta_data("", {"base:allocation"}))[0].type,
              OptionReply::unsupported);
  }
}

TEST_F(HandshakeRulesTest, WhoIsNotDoneInTimeIsDropped) {
  rules.limit = Milliseconds(50);
  WireClient client = connect();
  client.greet();
  EXPECT_TRUE(client.at_end());
  EXPECT_NE(server->log().find("the handshake took more than 0.05 s"), std::string::npos);
}

TEST_F(HandshakeRulesTest, WhoIsDoneInTimeHasAllTheTime) {
  rules.limit = Milliseconds(500);
  WireClient client = connect();
  client.go();
  ASSERT_FALSE(client.closes_within(Milliseconds(1000)));
  EXPECT_EQ(client.read(0, 512).error, 0u);
}

}  // namespace
}  // namespace nbdkit
