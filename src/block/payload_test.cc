// SPDX-License-Identifier: BSD-3-Clause
#include "block/payload.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

namespace nbdkit {
namespace {

std::string_view text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// What a loop receives into: overwritten as soon as the call has returned.
struct PayloadTest : testing::Test {
  Payload received() { return Payload(std::as_bytes(std::span(scratch)), pool, 1); }
  void receive_again() { scratch.assign(scratch.size(), '#'); }

  BufferPool pool;
  std::string scratch = "0123456789";
};

TEST_F(PayloadTest, IsAViewUntilItIsPinned) {
  Payload payload = received();
  EXPECT_FALSE(payload.pinned());
  EXPECT_EQ(static_cast<const void*>(payload.bytes().data()), scratch.data());
  ASSERT_TRUE(payload.pin().ok());
  receive_again();
  EXPECT_EQ(text(payload.bytes()), "0123456789");
}

TEST_F(PayloadTest, PinnedBytesStayWhereTheyAreAndServeODirect) {
  Payload payload = received();
  ASSERT_TRUE(payload.pin().ok());
  const std::byte* where = payload.bytes().data();
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(where) % 4096, 0u);
  ASSERT_TRUE(payload.pin().ok());
  EXPECT_EQ(payload.bytes().data(), where);
}

TEST_F(PayloadTest, MemoryOfItsOwnIsPinned) {
  Result<Buffer> buffer = pool.get(3, 1);
  std::memcpy(buffer.value().bytes().data(), "abc", 3);
  Payload payload(std::move(buffer).value(), pool, 1);
  EXPECT_TRUE(payload.pinned());
  EXPECT_EQ(text(payload.bytes()), "abc");
}

// A filter splits a write, the layer below waits, and the engine pins the write meanwhile.
TEST_F(PayloadTest, APartFollowsItsWholeWhenThatIsPinned) {
  Payload payload = received();
  Payload part = payload.part(2, 3);
  EXPECT_EQ(text(part.bytes()), "234");
  ASSERT_TRUE(payload.pin().ok());
  receive_again();
  EXPECT_TRUE(part.pinned());
  EXPECT_EQ(text(part.bytes()), "234");
}

TEST_F(PayloadTest, PinningAPartPinsTheWhole) {
  Payload payload = received();
  Payload part = payload.part(2, 5);
  Payload part_of_part = part.part(1, 2);
  ASSERT_TRUE(part_of_part.pin().ok());
  receive_again();
  EXPECT_EQ(text(part_of_part.bytes()), "34");
  EXPECT_EQ(text(part.bytes()), "23456");
  EXPECT_EQ(text(payload.bytes()), "0123456789");
}

}  // namespace
}  // namespace nbdkit
