// SPDX-License-Identifier: BSD-3-Clause
// Extended headers, and what clients that know chunks are told of what goes wrong.
#include <gtest/gtest.h>

#include <atomic>
#include <string>

#include "support/stack.h"
#include "support/test_server.h"

namespace nbdkit {
namespace {

constexpr std::uint64_t kTebibyte = std::uint64_t{1} << 40;
constexpr std::uint64_t kOdd = 1000;  // The last block is not a whole one.

// A disk of holes that remembers how much was to become zeroes.
class HollowDevice final : public BlockDevice {
 public:
  explicit HollowDevice(std::atomic<std::uint64_t>& zeroed)
      : BlockDevice(hollow_properties()), zeroed_(zeroed) {}

  Task<void> pread(Request request, Reply& reply) override {
    reply.hole(request.length);
    return Result<void>();
  }
  Task<void> pwrite(Request, Payload&) override {
    return Result<void>(Error(std::errc::io_error, "disk: torn"));
  }
  Task<void> flush() override { return Result<void>(); }
  Task<void> zero(Request request) override {
    zeroed_ = request.length;
    return Result<void>();
  }
  Task<void> extents(Request request, Extents& extents) override {
    return extents.add(request.offset, properties().size - request.offset,
                       ExtentType::hole_and_zero);
  }

 private:
  static Properties hollow_properties() {
    Properties properties;
    properties.size = kTebibyte + kOdd;
    properties.can_write = properties.can_trim = properties.can_extents = true;
    return properties;
  }

  std::atomic<std::uint64_t>& zeroed_;
};

class HollowLayer final : public Layer {
 public:
  Contract contract() const override { return {}; }
  Task<DevicePtr> open(Context&) override {
    return Result<DevicePtr>(std::make_unique<HollowDevice>(zeroed));
  }
  std::atomic<std::uint64_t> zeroed{0};
};

struct ExtendedTest : testing::Test {
  WireClient connect() {
    WireClient client = server.connect();
    client.greet();
    EXPECT_EQ(client.use_extended_headers(), OptionReply::ack);
    client.option(Option::set_meta_context, WireClient::meta_data("", {"base:allocation"}));
    EXPECT_EQ(client.option(Option::go, WireClient::go_data("")).back().type, OptionReply::ack);
    return client;
  }

  HollowLayer* disk = new HollowLayer;  // The server owns it.
  TestServer server{std::unique_ptr<Layer>(disk)};
};

TEST_F(ExtendedTest, TakeThePlaceOfStructuredReplies) {
  WireClient client = server.connect();
  client.greet();
  EXPECT_EQ(client.option(Option::extended_headers, "x")[0].type, OptionReply::invalid);
  EXPECT_EQ(client.option(Option::structured_reply)[0].type, OptionReply::ack);
  EXPECT_EQ(client.use_extended_headers(), OptionReply::ack);
  EXPECT_EQ(client.option(Option::extended_headers)[0].type, OptionReply::invalid);
  EXPECT_EQ(client.option(Option::structured_reply)[0].type,
            OptionReply::extended_headers_required);
  client.send_option(Option::export_name, "");
  EXPECT_TRUE(client.at_end());
}

TEST_F(ExtendedTest, EveryAnswerIsAChunk) {
  WireClient client = connect();
  EXPECT_EQ(client.call(Command::cache, 0, 512).error, 22u);
  EXPECT_EQ(client.call(Command::write_zeroes, 0, 512).chunks,
            std::vector<ChunkType>{ChunkType::none});
  WireClient::Answer read = client.read(4096, 8192);
  EXPECT_EQ(read.data, std::string(8192, '\0'));
  EXPECT_EQ(read.chunks, std::vector<ChunkType>{ChunkType::offset_hole});
}

TEST_F(ExtendedTest, LengthsHave64Bits) {
  WireClient client = connect();
  EXPECT_EQ(client.call(Command::write_zeroes, 512, kTebibyte - 512).error, 0u);
  EXPECT_EQ(disk->zeroed, kTebibyte - 512);
  WireClient::Answer status = client.call(Command::block_status, 0, kTebibyte);
  EXPECT_EQ(status.chunks, std::vector<ChunkType>{ChunkType::block_status_extended});
  EXPECT_EQ(status.extents, (std::vector<WireClient::StatusExtent>{{kTebibyte + kOdd, 3}}));
  status = client.call(Command::block_status, 512, kTebibyte / 2, command_flag::kReqOne);
  EXPECT_EQ(status.extents, (std::vector<WireClient::StatusExtent>{{kTebibyte / 2, 3}}));
  EXPECT_EQ(client.read(0, kTebibyte).error, 12u);
  EXPECT_EQ(client.call(Command::write_zeroes, 512, ~std::uint64_t{0}).error, 28u);
}

TEST_F(ExtendedTest, PayloadsAreTakenAsTheFlagSays) {
  WireClient client = connect();
  client.request(Command::write_zeroes, 2, 0, 5, command_flag::kPayloadLength, "12345");
  EXPECT_EQ(client.answer().error, 22u);
  EXPECT_EQ(client.write(0, "data").error, 5u);
  EXPECT_EQ(client.read(0, 4).error, 0u);
}

// As QEMU's client sends it.
TEST_F(ExtendedTest, AWriteHasAPayloadWithoutTheFlagToo) {
  WireClient client = connect();
  client.request(Command::write, 1, 0, 4, 0, "data");
  EXPECT_EQ(client.answer().error, 5u);
  EXPECT_EQ(client.read(0, 4).error, 0u);
}

TEST_F(ExtendedTest, PayloadsBeyondEveryLimitEndTheConnection) {
  WireClient client = connect();
  client.request(Command::write, 1, 0, kTebibyte, command_flag::kPayloadLength);
  EXPECT_TRUE(client.at_end());
}

TEST_F(ExtendedTest, ErrorsCarryWords) {
  WireClient client = server.connect();
  client.go("", true);
  EXPECT_EQ(client.write(0, "data").error_text, "disk: torn");
  EXPECT_EQ(client.call(Command::cache, 0, 512).error_text, "no such command on this export");
}

TEST_F(ExtendedTest, WhatThereIsBeforeTheEndIsServed) {
  WireClient client = server.connect();
  client.go("", true, true);
  WireClient::Answer read = client.read(kTebibyte, 4096);
  EXPECT_EQ(read.data, std::string(kOdd, '\0'));
  EXPECT_EQ(read.error, 22u);
  EXPECT_EQ(read.error_offset, kTebibyte + kOdd);
  WireClient::Answer status = client.call(Command::block_status, kTebibyte, 4096);
  EXPECT_EQ(status.extents, (std::vector<WireClient::StatusExtent>{{kOdd, 3}}));
  EXPECT_EQ(status.error_offset, kTebibyte + kOdd);
  EXPECT_EQ(client.read(kTebibyte + kOdd, 1).chunks, std::vector<ChunkType>{ChunkType::error});

  WireClient simple = server.connect();
  simple.go();
  EXPECT_EQ(simple.read(kTebibyte, 4096).error, 22u);
  EXPECT_EQ(simple.read(0, 512).error, 0u);
}

}  // namespace
}  // namespace nbdkit
