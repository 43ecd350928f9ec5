// SPDX-License-Identifier: BSD-3-Clause
// Lengths around 2^32, where numbers of 32 bits end (CVE-2025-47711, CVE-2025-47712).
#include <gtest/gtest.h>

#include "support/stack.h"
#include "support/test_server.h"

namespace nbdkit {
namespace {

constexpr std::uint64_t k4GiB = std::uint64_t{1} << 32;

// A disk with a hole of `hole` bytes and data behind it.
struct LengthEdgesTest : testing::TestWithParam<std::uint64_t> {
  LengthEdgesTest() {
    auto layer = std::make_unique<ScriptedLayer>(0);
    layer->properties.size = 4 * k4GiB;
    layer->properties.can_extents = true;
    layer->extents = {{0, GetParam(), ExtentType::hole_and_zero},
                      {GetParam(), 4 * k4GiB - GetParam(), ExtentType::data}};
    server.emplace(std::move(layer));
  }
  std::optional<TestServer> server;
};

// No extent is empty, and none says more than there is.
void expect_sound(const WireClient::Answer& answer, std::uint64_t offset, std::uint64_t hole) {
  ASSERT_EQ(answer.error, 0u);
  ASSERT_FALSE(answer.extents.empty());
  std::uint64_t at = offset;
  for (const WireClient::StatusExtent& extent : answer.extents) {
    const bool in_hole = at < hole;
    EXPECT_GT(extent.length, 0u);
    EXPECT_EQ(extent.flags, in_hole ? 3u : 0u);
    at += extent.length;
    EXPECT_LE(at, in_hole ? hole : 4 * k4GiB);
  }
}

TEST_P(LengthEdgesTest, StatusHasNoEmptyAndNoWrappedExtents) {
  const std::uint64_t hole = GetParam();
  WireClient client = server->connect();
  client.go("", true, true);
  for (std::uint64_t offset : {std::uint64_t{0}, hole - 1, hole - 512, hole}) {
    for (std::uint64_t length : {k4GiB - 1, k4GiB - 512, k4GiB / 2, std::uint64_t{1}}) {
      for (std::uint16_t flags : {std::uint16_t{0}, command_flag::kReqOne}) {
        expect_sound(client.call(Command::block_status, offset, length, flags), offset, hole);
      }
    }
  }
}

TEST_P(LengthEdgesTest, ExtendedStatusIsExact) {
  const std::uint64_t hole = GetParam();
  WireClient client = server->connect();
  client.greet();
  client.use_extended_headers();
  client.option(Option::set_meta_context, WireClient::meta_data("", {"base:allocation"}));
  client.option(Option::go, WireClient::go_data(""));
  for (std::uint64_t length : {hole - 1, hole, hole + 1, k4GiB - 1, k4GiB, k4GiB + 1}) {
    WireClient::Answer answer = client.call(Command::block_status, 0, length);
    ASSERT_EQ(answer.error, 0u);
    ASSERT_FALSE(answer.extents.empty());
    EXPECT_EQ(answer.extents[0], (WireClient::StatusExtent{hole, 3}));
    EXPECT_EQ(answer.extents.size(), length > hole ? 2u : 1u);
    answer = client.call(Command::block_status, 0, length, command_flag::kReqOne);
    EXPECT_EQ(answer.extents, (std::vector<WireClient::StatusExtent>{{std::min(length, hole), 3}}));
  }
}

INSTANTIATE_TEST_SUITE_P(Around32Bits, LengthEdgesTest,
                         testing::Values(k4GiB - 65536, k4GiB - 512, k4GiB - 1, k4GiB, k4GiB + 1,
                                         k4GiB + 512, 2 * k4GiB, 2 * k4GiB + 1));

}  // namespace
}  // namespace nbdkit
