// SPDX-License-Identifier: BSD-3-Clause
// What has broken servers of this kind before, and requests that break what was agreed on.
#include <gtest/gtest.h>

#include "support/stack.h"
#include "support/test_server.h"

namespace nbdkit {
namespace {

constexpr std::uint64_t kSize = (1 << 20) + 100;
constexpr std::uint64_t kHuge = 0x7fffffffffffffff;

struct AbuseTest : testing::Test {
  ScriptedLayer* disk = new ScriptedLayer(kSize);  // The server owns it.
  TestServer server{std::unique_ptr<Layer>(disk)};
};

std::string be32(std::uint32_t number) {
  std::string text(4, '\0');
  for (int i = 0; i < 4; ++i) text[i] = static_cast<char>(number >> (24 - 8 * i));
  return text;
}

TEST_F(AbuseTest, LengthsInsideAnOptionCannotLie) {
  const std::string no_infos(2, '\0');
  for (std::uint32_t lie : {1u, 5u, 4097u, 0x7fffffffu, 0xfffffffcu, 0xffffffffu}) {
    WireClient client = server.connect();
    client.greet();
    EXPECT_EQ(client.option(Option::structured_reply)[0].type, OptionReply::ack);
    for (Option option : {Option::info, Option::go}) {
      EXPECT_EQ(client.option(option, be32(lie) + no_infos)[0].type, OptionReply::invalid) << lie;
    }
    for (Option option : {Option::list_meta_context, Option::set_meta_context}) {
      EXPECT_EQ(client.option(option, be32(lie))[0].type, OptionReply::invalid) << lie;
      std::string queries = be32(0) + be32(lie);
      EXPECT_EQ(client.option(option, queries)[0].type, OptionReply::invalid) << lie;
    }
    EXPECT_EQ(client.option(Option::go, be32(0) + std::string("\xff\xff", 2))[0].type,
              OptionReply::invalid);
    EXPECT_EQ(client.option(Option::go, WireClient::go_data("")).back().type, OptionReply::ack);
  }
}

TEST_F(AbuseTest, AnOptionThatIsTooLongForMemoryEndsTheConnection) {
  for (std::uint32_t length : {(64u << 20) + 1, 0x80000000u, 0xffffffffu}) {
    WireClient client = server.connect();
    client.greet();
    OptionWire wire;
    wire.magic = kOptionMagic;
    wire.option = Option::go;
    wire.length = length;
    client.send({reinterpret_cast<const char*>(&wire), sizeof wire});
    EXPECT_TRUE(client.at_end()) << length;
  }
}

TEST_F(AbuseTest, AnExportNameThatIsTooLongEndsTheConnection) {
  for (std::size_t length : {4097u, 70'000u}) {
    WireClient client = server.connect();
    client.greet();
    client.send_option(Option::export_name, std::string(length, 'n'));
    EXPECT_TRUE(client.at_end()) << length;
  }
}

// A plugin in C would open the export "a".
TEST_F(AbuseTest, NamesHaveNoNul) {
  const std::string name("a\0b", 3);
  WireClient client = server.connect();
  client.greet();
  EXPECT_EQ(client.option(Option::go, WireClient::go_data(name))[0].type, OptionReply::invalid);
  EXPECT_EQ(client.option(Option::info, WireClient::go_data(name))[0].type, OptionReply::invalid);
  for (auto data : {WireClient::meta_data(name, {}), WireClient::meta_data("", {name})}) {
    EXPECT_EQ(client.option(Option::list_meta_context, data)[0].type, OptionReply::invalid);
  }
  client.send_option(Option::export_name, name);
  EXPECT_TRUE(client.at_end());
}

TEST_F(AbuseTest, BytesWithoutEndAreNoHandshake) {
  WireClient client = server.connect();
  client.greet();
  client.send(std::string(1000, '\0'));
  EXPECT_TRUE(client.at_end());
}

// Larger than any memory, and all of it one hole.
class HugeHole final : public Layer {
 public:
  Contract contract() const override { return {}; }
  Task<DevicePtr> open(Context&) override {
    Properties properties;
    properties.size = kHuge;
    properties.can_extents = true;
    return Result<DevicePtr>(std::make_unique<Device>(properties));
  }

 private:
  class Device final : public BlockDevice {
   public:
    using BlockDevice::BlockDevice;
    Task<void> pread(Request request, Reply& reply) override {
      reply.hole(request.length);
      return Result<void>();
    }
    Task<void> extents(Request request, Extents& extents) override {
      // From the beginning, and on beyond the end.
      NBDKIT_CHECK(extents.add(0, request.offset, ExtentType::data).ok());
      return extents.add(request.offset, ~std::uint64_t{0}, ExtentType::hole_and_zero);
    }
  };
};

TEST(ExtentsTest, AHoleOfMoreThan32BitsIsToldInLessOrInOne) {
  TestServer server{std::make_unique<HugeHole>()};
  WireClient client = server.connect();
  EXPECT_EQ(client.go("", true, true).size, kHuge);
  for (std::uint64_t offset : {std::uint64_t{0}, std::uint64_t{1} << 32, kHuge - 0x100000000}) {
    auto answer = client.call(Command::block_status, offset, 0xffffffff);
    ASSERT_EQ(answer.extents.size(), 1u) << offset;
    EXPECT_GE(answer.extents[0].length, 0x80000000u);
    EXPECT_LE(answer.extents[0].length, 0xffffffffu);
    EXPECT_EQ(answer.extents[0].flags, 3u);
  }
  EXPECT_EQ(client.call(Command::block_status, kHuge - 1, 1).extents.at(0).length, 1u);
  EXPECT_NE(client.call(Command::block_status, kHuge, 1).error, 0u);
  EXPECT_NE(client.call(Command::block_status, ~std::uint64_t{0}, 0xffffffff).error, 0u);
  EXPECT_EQ(client.read(0, 512).data, std::string(512, '\0'));
}

TEST(ExtentsTest, RangesThatWrapAreRefused) {
  TestServer server{std::make_unique<HugeHole>()};
  WireClient client = server.connect();
  client.greet();
  ASSERT_EQ(client.use_extended_headers(), OptionReply::ack);
  client.option(Option::set_meta_context, WireClient::meta_data("", {"base:allocation"}));
  ASSERT_EQ(client.option(Option::go, WireClient::go_data("")).back().type, OptionReply::ack);
  for (std::uint64_t length : {kHuge + 1, ~std::uint64_t{0}, ~std::uint64_t{0} - 511}) {
    EXPECT_NE(client.call(Command::block_status, 512, length).error, 0u) << length;
    EXPECT_NE(client.call(Command::read, 512, length).error, 0u) << length;
  }
  EXPECT_EQ(client.call(Command::block_status, 512, kHuge - 512).extents.at(0).length, kHuge - 512);
}

TEST_F(AbuseTest, QueriesAreAnsweredOncePerContext) {
  WireClient client = server.connect();
  client.greet();
  client.option(Option::structured_reply);
  auto names = [&](Option option, std::vector<std::string> queries) {
    std::string all;
    for (const auto& answer : client.option(option, WireClient::meta_data("", queries))) {
      if (answer.type == OptionReply::meta_context) all += answer.data.substr(4) + ";";
      if (answer.type == OptionReply::invalid) all += "invalid";
    }
    return all;
  };
  const std::string base = "base:allocation;";
  const std::string depth = "qemu:allocation-depth;";
  EXPECT_EQ(names(Option::list_meta_context, {}), base + depth);
  EXPECT_EQ(names(Option::list_meta_context, {"base:"}), base);
  EXPECT_EQ(names(Option::list_meta_context, {"qemu:", "base:", "base:allocation"}), base + depth);
  EXPECT_EQ(names(Option::list_meta_context, {"qemu:dirty-bitmap:x", ":", "base:alloc"}), "");
  EXPECT_EQ(names(Option::set_meta_context, {}), "");
  EXPECT_EQ(names(Option::set_meta_context, {"base:"}), "");
  EXPECT_EQ(names(Option::set_meta_context, {"qemu:allocation-depth", "base:allocation"}),
            base + depth);
  EXPECT_EQ(names(Option::set_meta_context, {"qemu:"}), "");
  EXPECT_EQ(names(Option::set_meta_context, {"x:y", "base:allocation", "base:allocation"}), base);
  EXPECT_EQ(names(Option::set_meta_context, {std::string(4097, 'q')}), "invalid");
}

class BlockSizes : public AbuseTest {
 protected:
  BlockSizes() { disk->properties.block_size = {512, 4096, 65536}; }

  WireClient client_that_asks(std::vector<Info> infos) {
    WireClient client = server.connect();
    client.greet();
    auto answers = client.option(Option::go, WireClient::go_data("", std::move(infos)));
    EXPECT_EQ(answers.back().type, OptionReply::ack);
    return client;
  }
};

TEST_F(BlockSizes, WhoHasAskedIsHeldToThem) {
  WireClient client = client_that_asks({Info::block_size});
  EXPECT_EQ(client.read(512, 512).error, 0u);
  EXPECT_EQ(client.write(1024, std::string(65536, 'x')).error, 0u);
  EXPECT_EQ(client.read(1, 512).error, 22u);
  EXPECT_EQ(client.read(0, 511).error, 22u);
  EXPECT_EQ(client.write(512, "x").error, 22u);
  EXPECT_EQ(client.write(0, std::string(65536 + 512, 'x')).error, 22u);
  EXPECT_EQ(client.call(Command::trim, 100, 512).error, 22u);
  EXPECT_EQ(client.call(Command::write_zeroes, 512, 100).error, 22u);
  EXPECT_EQ(client.call(Command::cache, 1, 512).error, 22u);
  // The largest size is one of data.
  EXPECT_EQ(client.call(Command::trim, 0, 1 << 20).error, 0u);
  EXPECT_EQ(client.call(Command::flush).error, 0u);
}

TEST_F(BlockSizes, TheEndOfTheExportMayLieInsideABlock) {
  WireClient client = client_that_asks({Info::block_size});
  EXPECT_EQ(client.read(1 << 20, 100).error, 0u);
  EXPECT_EQ(client.read(1 << 20, 50).error, 22u);
}

// NBD protocol, "Block size constraints": only GO is a promise.
TEST_F(BlockSizes, WhoOnlyLearnsThemIsNotHeldToThem) {
  WireClient client = server.connect();
  client.greet();
  client.option(Option::info, WireClient::go_data("", {Info::block_size}));
  client.send_option(Option::export_name, "");
  client.receive(sizeof(ExportNameReplyWire));
  EXPECT_EQ(client.read(1, 511).error, 0u);
}

// As nbdkit does it: a plugin says what it likes, and copes with what comes.
TEST_F(BlockSizes, WhoHasNotAskedIsServedAllTheSame) {
  WireClient client = client_that_asks({Info::description});
  EXPECT_EQ(client.read(1, 511).error, 0u);
  EXPECT_EQ(client.write(7, std::string(70'000, 'x')).error, 0u);
}

}  // namespace
}  // namespace nbdkit
