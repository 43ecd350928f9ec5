// SPDX-License-Identifier: BSD-3-Clause
// More than one metadata context on a connection (NBD protocol, "Metadata querying").
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "support/test_server.h"

namespace nbdkit {
namespace {

using StatusExtents = std::vector<WireClient::StatusExtent>;

constexpr std::uint64_t kBlock = 4096;

// A block of each type of extent.
class MixedDevice final : public BlockDevice {
 public:
  MixedDevice()
      : BlockDevice([] {
          Properties all;
          all.size = 4 * kBlock;
          all.can_extents = true;
          return all;
        }()) {}

  Task<void> pread(Request request, Reply& reply) override {
    reply.hole(request.length);
    return Result<void>();
  }
  Task<void> extents(Request, Extents& extents) override {
    constexpr std::array kTypes{ExtentType::data, ExtentType::zero, ExtentType::hole_and_zero,
                                ExtentType::hole};
    for (std::uint64_t i = 0; i < kTypes.size(); ++i) {
      Result<void> added = extents.add(i * kBlock, kBlock, kTypes[i]);
      if (!added.ok()) return added;
    }
    return Result<void>();
  }
};

class MixedLayer final : public Layer {
 public:
  Contract contract() const override { return {}; }
  Task<DevicePtr> open(Context&) override {
    return Result<DevicePtr>(std::make_unique<MixedDevice>());
  }
};

class MetaContextsTest : public testing::TestWithParam<Option> {
 protected:
  WireClient connect(const std::vector<std::string>& contexts) {
    WireClient client = server_.connect();
    client.greet();
    if (GetParam() == Option::extended_headers) {
      EXPECT_EQ(client.use_extended_headers(), OptionReply::ack);
    } else {
      client.option(Option::structured_reply);
    }
    client.option(Option::set_meta_context, WireClient::meta_data("", contexts));
    EXPECT_EQ(client.option(Option::go, WireClient::go_data("")).back().type, OptionReply::ack);
    return client;
  }

 private:
  TestServer server_{std::make_unique<MixedLayer>()};
};

TEST_P(MetaContextsTest, SeveralContextsAreAnsweredTogether) {
  WireClient client = connect({"qemu:allocation-depth", "base:allocation"});
  WireClient::Answer status = client.call(Command::block_status, 0, 4 * kBlock);
  EXPECT_EQ(status.error, 0u);
  EXPECT_EQ(status.chunks.size(), 2u);
  EXPECT_EQ(status.extents, (StatusExtents{{kBlock, 0}, {kBlock, 2}, {kBlock, 3}, {kBlock, 1}}));
  EXPECT_EQ(status.depths, (StatusExtents{{2 * kBlock, 1}, {2 * kBlock, 0}}));

  status = client.call(Command::block_status, kBlock / 2, kBlock, command_flag::kReqOne);
  EXPECT_EQ(status.extents, (StatusExtents{{kBlock / 2, 0}}));
  EXPECT_EQ(status.depths, (StatusExtents{{kBlock, 1}}));

  status = client.call(Command::block_status, 3 * kBlock, 2 * kBlock);
  EXPECT_EQ(status.extents, (StatusExtents{{kBlock, 1}}));
  EXPECT_EQ(status.depths, (StatusExtents{{kBlock, 0}}));
  EXPECT_EQ(status.error_offset, 4 * kBlock);
  EXPECT_EQ(client.call(Command::block_status, 4 * kBlock, 1).error, 22u);
}

TEST_P(MetaContextsTest, OneContextIsAnsweredAlone) {
  WireClient client = connect({"qemu:allocation-depth"});
  WireClient::Answer status = client.call(Command::block_status, 0, 4 * kBlock);
  EXPECT_EQ(status.chunks.size(), 1u);
  EXPECT_EQ(status.extents, StatusExtents{});
  EXPECT_EQ(status.depths, (StatusExtents{{2 * kBlock, 1}, {2 * kBlock, 0}}));
}

INSTANTIATE_TEST_SUITE_P(Headers, MetaContextsTest,
                         testing::Values(Option::structured_reply, Option::extended_headers),
                         [](const auto& header) {
                           return header.param == Option::extended_headers ? "Extended" : "Chunks";
                         });

}  // namespace
}  // namespace nbdkit
