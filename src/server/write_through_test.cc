// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include "support/stack.h"
#include "support/test_server.h"

namespace nbdkit {
namespace {

// A kernel's users count on what has been answered, as with any disk.
TEST(WriteThroughTest, WhatSurvivesOnlyFlushedIsWrittenThroughForAKernel) {
  auto* disk = new ScriptedLayer(1 << 20);  // The server owns it.
  disk->survives = Survives::flushed;
  TestServer server{std::unique_ptr<Layer>(disk)};
  StartOptions kernel;
  kernel.kernel = true;
  WireClient client = server.connect(kernel);
  client.go();
  EXPECT_EQ(client.write(0, "through").error, 0u);
  EXPECT_EQ(client.call(Command::write_zeroes, 0, 512).error, 0u);
  EXPECT_EQ(client.call(Command::read, 0, 512).error, 0u);
  ASSERT_EQ(disk->calls.size(), 3u);
  EXPECT_TRUE(disk->calls[0].request.has(RequestFlags::fua));
  EXPECT_TRUE(disk->calls[1].request.has(RequestFlags::fua));
  EXPECT_FALSE(disk->calls[2].request.has(RequestFlags::fua));
  WireClient other = server.connect();
  other.go();
  EXPECT_EQ(other.write(0, "through").error, 0u);
  EXPECT_FALSE(disk->calls.back().request.has(RequestFlags::fua));
}

}  // namespace
}  // namespace nbdkit
