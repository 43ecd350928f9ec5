// SPDX-License-Identifier: BSD-3-Clause
#include "server/server.h"

#include <gtest/gtest.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <array>
#include <random>

#include "support/stack.h"
#include "support/test_server.h"

namespace nbdkit {
namespace {

constexpr std::uint64_t kSize = 1 << 20;

struct ServerTest : testing::Test {
  ScriptedLayer* disk = new ScriptedLayer(kSize);  // The server owns it.
  TestServer server{std::unique_ptr<Layer>(disk)};
};

std::string pattern(std::size_t length, unsigned seed = 1) {
  std::mt19937 random(seed);
  std::string text(length, '\0');
  for (char& c : text) c = static_cast<char>(random());
  return text;
}

TEST_F(ServerTest, WhatIsWrittenIsRead) {
  WireClient client = server.connect();
  WireClient::Export info = client.go();
  EXPECT_EQ(info.size, kSize);
  std::string data = pattern(4096);
  EXPECT_EQ(client.write(8192, data).error, 0u);
  EXPECT_EQ(client.read(8192, 4096).data, data);
}

TEST_F(ServerTest, AnnouncesWhatTheDeviceCan) {
  using namespace transmission_flag;
  WireClient client = server.connect();
  EXPECT_EQ(client.go("", true).flags,
            kHasFlags | kFlush | kFua | kTrim | kWriteZeroes | kMultiConn | kCache | kDontFragment);
}

TEST_F(ServerTest, ExportNameAnswersWithoutAReplyHeader) {
  WireClient client = server.connect();
  client.greet(kFixedNewstyle);
  client.send_option(Option::export_name, "");
  std::string answer = client.receive(sizeof(ExportNameReplyWire) + kExportNameZeroes);
  EXPECT_EQ(static_cast<unsigned char>(answer[5]), kSize >> 16);
  EXPECT_EQ(client.read(0, 512).error, 0u);
}

TEST_F(ServerTest, AnOldClientMayOnlyNameItsExport) {
  WireClient client = server.connect();
  client.greet(0);
  EXPECT_EQ(client.option(Option::list)[0].type, OptionReply::invalid);
  EXPECT_EQ(client.option(Option::go, WireClient::go_data(""))[0].type, OptionReply::invalid);
  client.send_option(Option::export_name, "");
  client.receive(sizeof(ExportNameReplyWire) + kExportNameZeroes);
  EXPECT_EQ(client.read(0, 512).error, 0u);
}

TEST_F(ServerTest, BadOptionMagicEndsTheConnection) {
  WireClient client = server.connect();
  client.greet();
  client.send(std::string(16, 'x'));
  EXPECT_TRUE(client.at_end());
}

TEST_F(ServerTest, AbortIsAnsweredAndEndsTheConnection) {
  WireClient client = server.connect();
  client.greet();
  EXPECT_EQ(client.option(Option::abort)[0].type, OptionReply::ack);
  EXPECT_TRUE(client.at_end());
}

// Whether or not the answer finds its socket closed already.
TEST_F(ServerTest, AClientNeedNotWaitForTheAnswerToAbort) {
  for (int i = 0; i < 50; ++i) {
    WireClient client = server.connect();
    client.greet();
    client.send_option(Option::abort, "");
    client.close();
  }
  server.stop();
  EXPECT_EQ(server.log(), "");
}

TEST_F(ServerTest, NamesHaveALimit) {
  WireClient client = server.connect();
  client.greet();
  std::string longest(4096, 'n');
  for (Option option : {Option::info, Option::go}) {
    std::string data = WireClient::go_data(longest + "n");
    EXPECT_EQ(client.option(option, data)[0].type, OptionReply::invalid);
  }
  EXPECT_EQ(client.option(Option::go, WireClient::go_data(longest)).back().type, OptionReply::ack);
  WireClient other = server.connect();
  other.greet();
  other.send_option(Option::export_name, longest + "n");
  EXPECT_TRUE(other.at_end());
}

TEST_F(ServerTest, TheListMayBeAskedForAgain) {
  WireClient client = server.connect();
  client.greet();
  for (int i = 0; i < 2; ++i) EXPECT_EQ(client.option(Option::list).back().type, OptionReply::ack);
}

TEST_F(ServerTest, StructuredRepliesAreAgreedOnOnce) {
  WireClient client = server.connect();
  client.greet();
  EXPECT_EQ(client.option(Option::structured_reply, "x")[0].type, OptionReply::invalid);
  EXPECT_EQ(client.option(Option::structured_reply)[0].type, OptionReply::ack);
  EXPECT_EQ(client.option(Option::structured_reply)[0].type, OptionReply::invalid);
}

TEST_F(ServerTest, UnknownClientFlagsEndTheConnection) {
  WireClient client = server.connect();
  client.greet(0x100);
  EXPECT_TRUE(client.at_end());
}

TEST_F(ServerTest, UnknownOptionsAreRefusedAndTheHandshakeGoesOn) {
  WireClient client = server.connect();
  client.greet();
  EXPECT_EQ(client.option(static_cast<Option>(99), "x")[0].type, OptionReply::unsupported);
  EXPECT_EQ(client.option(Option::starttls)[0].type, OptionReply::policy);
  EXPECT_EQ(client.option(Option::go, "abc")[0].type, OptionReply::invalid);
  EXPECT_EQ(client.option(Option::list, "abc")[0].type, OptionReply::invalid);
  EXPECT_EQ(client.option(Option::info, std::string(70000, 'x'))[0].type, OptionReply::too_big);
  EXPECT_EQ(client.option(Option::go, WireClient::go_data("")).back().type, OptionReply::ack);
}

TEST_F(ServerTest, ListNamesTheDefaultExport) {
  WireClient client = server.connect();
  client.greet();
  auto answers = client.option(Option::list);
  ASSERT_EQ(answers.size(), 2u);
  EXPECT_EQ(answers[0].type, OptionReply::server);
  EXPECT_EQ(answers[0].data, std::string(4, '\0'));
}

TEST_F(ServerTest, OptionsWithoutEndEndTheConnection) {
  WireClient client = server.connect();
  client.greet();
  for (int i = 0; i < 32; ++i) client.option(Option::structured_reply, "x");
  client.send_option(Option::list, "");
  EXPECT_TRUE(client.at_end());
}

TEST_F(ServerTest, BadRequestMagicEndsTheConnection) {
  WireClient client = server.connect();
  client.go();
  client.send(std::string(28, 'x'));
  EXPECT_TRUE(client.at_end());
}

TEST_F(ServerTest, WrongRequestsGetTheirErrorAndTheNextOneIsServed) {
  WireClient client = server.connect();
  client.go();
  auto error = [&](Command command, std::uint64_t offset, std::uint32_t length,
                   std::uint16_t flags = 0) {
    return client.call(command, offset, length, flags).error;
  };
  EXPECT_EQ(error(Command::read, kSize, 1), 22u);
  EXPECT_EQ(error(Command::read, ~std::uint64_t{0}, 512), 22u);
  EXPECT_EQ(error(Command::read, 0, 0), 22u);
  EXPECT_EQ(error(Command::trim, kSize - 1, 2), 22u);
  EXPECT_EQ(error(Command::write_zeroes, kSize, 512), 28u);
  EXPECT_EQ(error(static_cast<Command>(77), 0, 512), 22u);
  EXPECT_EQ(error(Command::trim, 0, 512, 0x8000), 22u);
  EXPECT_EQ(error(Command::block_status, 0, 512), 22u);
  EXPECT_EQ(error(Command::write_zeroes, 0, 512, command_flag::kFastZero), 22u);
  EXPECT_EQ(client.write(kSize - 1, "ab").error, 28u);
  EXPECT_EQ(client.write(0, "").error, 28u);
  EXPECT_EQ(client.write(0, "ok").error, 0u);
  EXPECT_EQ(client.read(0, 2).data, "ok");
}

// NBD protocol, "Error values": EINVAL for a flag that is not documented for the command.
TEST_F(ServerTest, FlagsOfOtherCommandsAreRefused) {
  using namespace command_flag;
  WireClient client = server.connect();
  client.go("", true, true);
  struct {
    Command command;
    std::uint16_t own;
  } commands[] = {
      {Command::read, kDontFragment},   {Command::flush, 0}, {Command::trim, 0},
      {Command::write_zeroes, kNoHole}, {Command::cache, 0}, {Command::block_status, kReqOne}};
  for (auto [command, own] : commands) {
    std::uint32_t length = command == Command::flush ? 0 : 512;
    for (std::uint16_t flag = 1; flag <= kFastZero; flag = static_cast<std::uint16_t>(flag << 1)) {
      bool right = flag == kFua || flag == own;
      EXPECT_EQ(client.call(command, 0, length, flag).error, right ? 0u : 22u)
          << static_cast<int>(command) << " with " << flag;
    }
  }
  EXPECT_EQ(client.write(0, "x", kNoHole).error, 22u);
  EXPECT_EQ(client.write(0, "x", kFua).error, 0u);
}

TEST(ServerLimits, PayloadsMayHave64MiB) {
  constexpr std::uint32_t kMax = 64 << 20;
  TestServer server(std::make_unique<ScriptedLayer>(kMax + 1));
  WireClient client = server.connect();
  client.go();
  std::string data = pattern(kMax);
  EXPECT_EQ(client.write(1, data).error, 0u);
  EXPECT_TRUE(client.read(1, kMax).data == data);
  EXPECT_EQ(client.call(Command::read, 0, kMax + 1).error, 12u);
  EXPECT_EQ(client.write(0, data + "x").error, 12u);
  EXPECT_EQ(client.read(1, 1).data, data.substr(0, 1));  // What was refused has been passed over.
  client.request(Command::write, 1, 0, (128 << 20) + 1);
  EXPECT_TRUE(client.at_end());
}

TEST_F(ServerTest, DeviceErrorsReachTheClient) {
  WireClient client = server.connect();
  client.go();
  disk->fail(Operation::read, {std::errc::io_error});
  disk->fail(Operation::write, {std::errc::no_space_on_device});
  EXPECT_EQ(client.read(0, 512).error, 5u);
  EXPECT_EQ(client.write(0, "x").error, 28u);
  EXPECT_EQ(client.read(0, 512).error, 0u);
}

TEST_F(ServerTest, StructuredRepliesCarryErrorsAndData) {
  WireClient client = server.connect();
  client.go("", true);
  std::string data = pattern(100000);
  EXPECT_EQ(client.write(1000, data).error, 0u);
  WireClient::Answer answer = client.read(1000, 100000);
  EXPECT_TRUE(answer.structured);
  EXPECT_EQ(answer.data, data);
  EXPECT_EQ(client.read(1000, 100000, command_flag::kDontFragment).data, data);
  EXPECT_EQ(client.read(kSize, 1).error, 22u);
}

TEST_F(ServerTest, BlockStatusNeedsItsMetadataContext) {
  WireClient client = server.connect();
  client.go("", true, true);
  WireClient::Answer answer = client.call(Command::block_status, 0, 4096);
  ASSERT_EQ(answer.extents.size(), 1u);
  EXPECT_EQ(answer.extents[0], (WireClient::StatusExtent{4096, 0}));
}

// NBD protocol, NBD_OPT_SET_META_CONTEXT: it replaces what was agreed on, also when it fails.
TEST_F(ServerTest, AMetadataContextIsLostWithTheNextAgreement) {
  std::string agreed = WireClient::meta_data("", {"base:allocation"});
  auto error_after = [&](std::string_view data) {
    WireClient client = server.connect();
    client.greet();
    client.option(Option::structured_reply);
    client.option(Option::set_meta_context, agreed);
    if (!data.empty()) client.option(Option::set_meta_context, data);
    client.option(Option::go, WireClient::go_data(""));
    return client.call(Command::block_status, 0, 512).error;
  };
  EXPECT_EQ(error_after(""), 0u);
  EXPECT_EQ(error_after(WireClient::meta_data("", {})), 22u);
  EXPECT_EQ(error_after("malformed"), 22u);
  EXPECT_EQ(error_after(WireClient::meta_data("", {std::string(5000, 'x')})), 22u);
  EXPECT_EQ(error_after(std::string(70'000, 'x')), 22u);
}

TEST_F(ServerTest, AMetadataContextBelongsToItsExport) {
  for (Option way : {Option::go, Option::export_name}) {
    for (std::string name : {"a", "b"}) {
      WireClient client = server.connect();
      client.greet();
      client.option(Option::structured_reply);
      client.option(Option::set_meta_context, WireClient::meta_data("a", {"base:allocation"}));
      if (way == Option::go) {
        client.option(way, WireClient::go_data(name));
      } else {
        client.send_option(way, name);
        client.receive(sizeof(ExportNameReplyWire));
      }
      EXPECT_EQ(client.call(Command::block_status, 0, 512).error, name == "a" ? 0u : 22u);
    }
  }
}

TEST_F(ServerTest, TransmissionBeginsWithoutAHandshake) {
  StartOptions options;
  options.mode = StartOptions::Mode::transmission;
  WireClient client = server.connect(options);
  EXPECT_EQ(client.write(0, "hello").error, 0u);
  EXPECT_EQ(client.read(0, 5).data, "hello");
}

TEST_F(ServerTest, QueryTellsWhatAClientWouldBeTold) {
  Result<ExportInfo> info = server.query("");
  ASSERT_TRUE(info.ok());
  EXPECT_EQ(info.value().size, kSize);
}

// Every way in which the bytes of a few requests can be cut in two, and a byte at a time.
TEST_F(ServerTest, RequestsMayArriveInAnyPieces) {
  WireClient client = server.connect();
  client.go();
  std::string data = pattern(100);
  std::string bytes = WireClient::packet(Command::write, 1, 0, 100, 0, data) +
                      WireClient::packet(Command::flush, 2, 0, 0) +
                      WireClient::packet(Command::write, 3, kSize, 100, 0, data) +
                      WireClient::packet(Command::read, 4, 0, 100);
  auto check = [&] {
    EXPECT_EQ(client.answer().error, 0u);
    EXPECT_EQ(client.answer().error, 0u);
    EXPECT_EQ(client.answer().error, 28u);
    EXPECT_EQ(client.answer(100).data, data);
  };
  for (std::size_t cut = 1; cut < bytes.size(); ++cut) {
    client.send(bytes.substr(0, cut));
    client.send(bytes.substr(cut));
    check();
  }
  for (char c : bytes) client.send(std::string(1, c));
  check();
}

// More requests at once than any limit admits, answered without one being read in between.
TEST_F(ServerTest, ManyRequestsAtOnceAreAllAnswered) {
  WireClient client = server.connect();
  client.go();
  constexpr unsigned kCount = 5000;
  std::thread writer([&] {
    std::string bytes;
    for (unsigned i = 0; i < kCount; ++i)
      bytes += WireClient::packet(Command::read, i, i * 16, 8192);
    client.send(bytes);
  });
  std::vector<bool> seen(kCount);
  for (unsigned i = 0; i < kCount; ++i) {
    WireClient::Answer answer = client.answer(8192);
    ASSERT_LT(answer.cookie, kCount);
    EXPECT_FALSE(seen[answer.cookie]);
    seen[answer.cookie] = true;
  }
  writer.join();
}

// Requests go on arriving one by one while the replies fill the socket and wait there.
TEST_F(ServerTest, RequestsThatArriveWhileRepliesWaitAreAllAnswered) {
  WireClient client = server.connect();
  client.go();
  constexpr unsigned kCount = 100;
  constexpr std::uint32_t kLength = 256 * 1024;
  for (unsigned i = 0; i < kCount; ++i) {
    client.request(Command::read, i, i * 16, kLength);
    // Each in a receive of its own, as long as the server receives at all.
    int unread = 1;
    auto until = std::chrono::steady_clock::now() + Milliseconds(2);
    while (unread > 0 && std::chrono::steady_clock::now() < until) {
      ASSERT_EQ(::ioctl(client.fd(), SIOCOUTQ, &unread), 0);
    }
  }
  for (unsigned i = 0; i < kCount; ++i) EXPECT_EQ(client.answer(kLength).cookie, i);
}

TEST_F(ServerTest, RequestsThatWaitAreAnsweredInTheEnd) {
  disk->set_delay(Milliseconds(1));
  WireClient client = server.connect();
  client.go();
  constexpr unsigned kCount = 2000;  // Several times kRequestsMax.
  std::string bytes;
  for (unsigned i = 0; i < kCount; ++i) {
    bytes += WireClient::packet(Command::write, i, i * 64, 64, 0, pattern(64, i));
  }
  client.send(bytes);
  for (unsigned i = 0; i < kCount; ++i) EXPECT_EQ(client.answer().error, 0u);
  for (unsigned i = 0; i < kCount; i += 97) EXPECT_EQ(client.read(i * 64, 64).data, pattern(64, i));
}

TEST_F(ServerTest, DisconnectFinishesWhatIsUnderWay) {
  disk->set_delay(Milliseconds(20));
  WireClient client = server.connect();
  client.go();
  client.send(WireClient::packet(Command::write, 7, 0, 5, 0, "hello") +
              WireClient::packet(Command::disconnect, 8, 0, 0));
  EXPECT_EQ(client.answer().cookie, 7u);
  EXPECT_TRUE(client.at_end());
}

TEST_F(ServerTest, StopFinishesWhatIsUnderWayAndNoMore) {
  disk->set_delay(Milliseconds(50));
  WireClient client = server.connect();
  client.go();
  client.request(Command::write, 7, 0, 5, 0, "hello");
  while (disk->arrived == 0) std::this_thread::yield();
  server.stop();
  EXPECT_EQ(client.answer().cookie, 7u);
  EXPECT_TRUE(client.at_end());
}

// The client goes on asking until the end. What it asks while the server stops is refused.
TEST_F(ServerTest, WhatIsAskedWhileTheServerStopsIsRefused) {
  disk->set_delay(Milliseconds(100));
  WireClient client = server.connect();
  client.go({}, true);
  std::uint64_t sent = 0;
  client.request(Command::write, ++sent, 0, 5, 0, "hello");
  while (disk->arrived == 0) std::this_thread::yield();
  std::atomic<bool> over{false};
  std::thread stopping([&] {
    server.stop();
    over = true;
  });
  while (!over) {
    if (sent < 200) client.request(Command::write, ++sent, 0, 5, 0, "hello");
    std::this_thread::sleep_for(Milliseconds(1));
  }
  stopping.join();
  std::uint64_t served = 0, refused = 0;
  char byte;
  while (::recv(client.fd(), &byte, 1, MSG_PEEK) > 0) {
    WireClient::Answer answer = client.answer();
    (answer.error == 0 ? served : refused) += 1;
    if (answer.error != 0) {
      EXPECT_EQ(answer.error, 108u);
      EXPECT_EQ(answer.error_text, "the server ends this connection");
    }
  }
  EXPECT_GE(served, 1u);
  EXPECT_GE(refused, 1u);
}

TEST_F(ServerTest, AClientThatVanishesLeavesNothingBehind) {
  disk->set_delay(Seconds(3600));
  WireClient client = server.connect();
  client.go();
  client.request(Command::read, 1, 0, 512);
  client.close();
  server.stop();  // Would wait for an hour if the sleep were not ended.
}

TEST_F(ServerTest, ASilentClientInTheHandshakeDoesNotHoldTheStop) {
  WireClient silent = server.connect();
  WireClient other = server.connect();
  EXPECT_EQ(other.go().size, kSize);
  server.stop();
}

class NeverOpens final : public Layer {
 public:
  Contract contract() const override { return {}; }
  Task<DevicePtr> open(Context& context) override {
    opening = true;
    co_await context.sleep(Seconds(3600));
    co_return DevicePtr();
  }
  std::atomic<bool> opening{false};
};

TEST(StopInTheHandshake, IsToldToWhoHasAsked) {
  auto* layer = new NeverOpens;
  TestServer server{std::unique_ptr<Layer>(layer)};
  WireClient client = server.connect();
  client.greet();
  client.send_option(Option::go, WireClient::go_data(""));
  client.send_option(Option::list, "");
  while (!layer->opening) std::this_thread::yield();
  server.stop();
  EXPECT_EQ(client.option_answer().type, OptionReply::shutdown);
  EXPECT_TRUE(client.at_end());
}

TEST(ReadOnlyServer, RefusesToWrite) {
  ServerOptions options;
  options.read_only = true;
  TestServer server(std::make_unique<ScriptedLayer>(kSize), options);
  WireClient client = server.connect();
  EXPECT_TRUE(client.go().flags & transmission_flag::kReadOnly);
  EXPECT_EQ(client.write(0, "x").error, 1u);
  EXPECT_EQ(client.call(Command::trim, 0, 512).error, 1u);
}

}  // namespace
}  // namespace nbdkit
