// SPDX-License-Identifier: BSD-3-Clause
// Connections whose requests find their memory ready (ServerOptions::stocked): what there is limits
// how many are under way, and nobody waits for ever. That nothing is allocated is for
// tests/e2e/allocations_test.
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "async/loop_pool.h"
#include "support/stack.h"
#include "support/test_server.h"

namespace nbdkit {
namespace {

constexpr std::uint32_t kMiB = 1 << 20;

struct StockedTest : testing::Test {
  StockedTest() {
    auto plugin = std::make_unique<ScriptedLayer>(16 * kMiB);
    layer = plugin.get();
    ServerOptions options;
    options.stocked = true;
    server.emplace(std::move(plugin), options);
  }
  WireClient connect() {
    WireClient client = server->connect();
    client.go();
    return client;
  }

  ScriptedLayer* layer = nullptr;
  std::optional<TestServer> server;
};

// On both sides of every size that there is, and of the largest.
TEST_F(StockedTest, RequestsOfAllSizesAreServed) {
  WireClient client = connect();
  for (const BufferPool::Stocked& one : BufferPool::kStock) {
    for (std::size_t size : {one.size - 1, one.size, one.size + 1}) {
      std::string data(size, static_cast<char>('a' + size % 26));
      ASSERT_EQ(client.write(4096, data).error, 0u);
      ASSERT_TRUE(client.read(4096, size).data == data);
    }
  }
  std::string all(16 * kMiB, 'z');
  ASSERT_EQ(client.write(0, all).error, 0u);
  EXPECT_TRUE(client.read(0, all.size()).data == all);
}

TEST_F(StockedTest, WhatDoesNotFitAtOnceIsServedInTurn) {
  layer->set_delay(Milliseconds(1));
  WireClient client = connect();
  std::string packets;
  std::vector<std::uint32_t> sizes;
  for (std::uint64_t i = 0; i < 400; ++i) {
    sizes.push_back(i % 10 == 0 ? kMiB : i % 3 == 0 ? 128 << 10 : i % 50 == 7 ? 3 * kMiB : 4096);
    packets += WireClient::packet(Command::read, i, 0, sizes.back());
  }
  client.send(packets);
  std::size_t length = 0;
  for (std::uint32_t size : sizes) length += 16 + size;
  EXPECT_EQ(client.receive(length).size(), length);
}

// More connections than loops, and each wants more large buffers than a loop has.
TEST_F(StockedTest, ConnectionsOfOneLoopShareWhatItHas) {
  layer->set_delay(Milliseconds(1));
  constexpr std::uint32_t kSize = 2 * kMiB;
  constexpr std::size_t kEach = 3;
  std::vector<WireClient> clients;
  for (std::size_t i = 0; i < LoopPool::kLoopsMax + 4; ++i) clients.push_back(connect());
  for (WireClient& client : clients) {
    for (std::size_t i = 0; i < kEach; ++i) client.request(Command::read, i, 0, kSize);
  }
  for (WireClient& client : clients) {
    for (std::size_t i = 0; i < kEach; ++i) EXPECT_EQ(client.answer(kSize).data.size(), kSize);
  }
}

// Clients that have begun to write hold all that there is.
TEST_F(StockedTest, OthersNeedNotWaitForWhoDoesNotGoOn) {
  constexpr std::uint32_t kSize = 2 * kMiB;
  for (int round = 0; round < 4; ++round) {
    std::vector<WireClient> slow;
    for (std::size_t i = 0; i < 2 * LoopPool::kLoopsMax; ++i) {
      slow.push_back(connect());
      slow.back().send(WireClient::packet(Command::write, 1, 0, kSize) + "begun");
    }
    WireClient client = connect();
    EXPECT_EQ(client.write(0, std::string(kSize, 'x')).error, 0u);
  }
}

}  // namespace
}  // namespace nbdkit
