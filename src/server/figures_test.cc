// SPDX-License-Identifier: BSD-3-Clause
// What a server tells of the requests that it has answered.
#include <gtest/gtest.h>

#include "support/stack.h"
#include "support/test_server.h"

namespace nbdkit {
namespace {

constexpr std::uint64_t kSize = 1 << 20;

struct FiguresTest : testing::Test {
  WireClient connect(bool kernel) {
    StartOptions options;
    options.mode = StartOptions::Mode::transmission;
    options.kernel = kernel;
    return server.connect(std::move(options));
  }
  RequestFigures figures(std::optional<bool> kernel = {}) {
    return server.on_main_loop([&] { return server.server().figures(kernel); }).value();
  }
  void wait_for_no_connection() {
    std::size_t left = 1;
    while (left > 0) {
      left = server.on_main_loop([&] { return Task<std::size_t>(server.server().connections()); })
                 .value();
    }
  }

  ScriptedLayer* disk = new ScriptedLayer(kSize);  // The server owns it.
  TestServer server{std::unique_ptr<Layer>(disk)};
};

TEST_F(FiguresTest, EachKindIsCountedByItself) {
  WireClient client = connect(true);
  client.write(0, std::string(4096, 'x'));
  client.write(4096, std::string(512, 'x'));
  client.read(0, 8192);
  client.call(Command::flush);
  client.call(Command::trim, 0, 65536);
  client.call(Command::write_zeroes, 0, 1024);
  client.call(Command::cache, 0, 2048);
  RequestFigures all = figures();
  EXPECT_EQ(all.of(RequestKind::write), (RequestFigures::Kind{2, 4608, 0}));
  EXPECT_EQ(all.of(RequestKind::read), (RequestFigures::Kind{1, 8192, 0}));
  EXPECT_EQ(all.of(RequestKind::flush), (RequestFigures::Kind{1, 0, 0}));
  EXPECT_EQ(all.of(RequestKind::trim), (RequestFigures::Kind{1, 65536, 0}));
  EXPECT_EQ(all.of(RequestKind::zero), (RequestFigures::Kind{1, 1024, 0}));
  EXPECT_EQ(all.of(RequestKind::cache), (RequestFigures::Kind{1, 2048, 0}));
  EXPECT_EQ(all.of(RequestKind::extents), RequestFigures::Kind{});
  EXPECT_EQ(all.latency.total(), 7u);
  EXPECT_EQ(all.under_way, 0u);
  EXPECT_FALSE(all.oldest);
}

TEST_F(FiguresTest, WhatFailsHasNoBytes) {
  disk->fail(Operation::write, {std::errc::no_space_on_device});
  WireClient client = connect(true);
  EXPECT_NE(client.write(0, std::string(4096, 'x')).error, 0u);
  EXPECT_EQ(figures().of(RequestKind::write), (RequestFigures::Kind{1, 0, 1}));
}

TEST_F(FiguresTest, ConnectionsThatHaveEndedCountOn) {
  for (int i = 0; i < 3; ++i) {
    WireClient client = connect(true);
    client.read(0, 512);
  }
  wait_for_no_connection();
  WireClient client = connect(true);
  client.read(0, 512);
  EXPECT_EQ(figures().of(RequestKind::read), (RequestFigures::Kind{4, 2048, 0}));
  EXPECT_EQ(figures().latency.total(), 4u);
}

TEST_F(FiguresTest, KernelsAndOthersAreToldApart) {
  WireClient kernel = connect(true);
  WireClient client = connect(false);
  kernel.read(0, 512);
  client.read(0, 1024);
  client.close();
  std::size_t left = 2;
  while (left > 1) {
    left = server.on_main_loop([&] { return Task<std::size_t>(server.server().connections()); })
               .value();
  }
  EXPECT_EQ(figures(true).of(RequestKind::read).bytes, 512u);
  EXPECT_EQ(figures(false).of(RequestKind::read).bytes, 1024u);
  EXPECT_EQ(figures().of(RequestKind::read).bytes, 1536u);
}

}  // namespace
}  // namespace nbdkit
