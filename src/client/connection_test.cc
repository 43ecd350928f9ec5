// SPDX-License-Identifier: BSD-3-Clause
#include "client/connection.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>

#include "support/real_loop.h"
#include "support/socket_pair.h"
#include "support/wire_server.h"

namespace nbdkit {
namespace {

using Script = std::function<void(WireServer&)>;

// One read or write and what became of it.
struct Asked {
  std::string data;
  std::optional<Result<void>> result;
};

struct ConnectionTest : testing::Test {
  void connect(bool structured, Script script) {
    SocketPair pair;
    ClientAgreement agreement;
    agreement.size = 1 << 30;
    agreement.structured_replies = structured;
    agreement.base_allocation = 1;
    server.emplace(std::move(pair.theirs), std::move(script));
    ClientSession session;
    session.socket = std::make_unique<SocketStream>(std::move(pair.ours));
    session.agreement = agreement;
    connection = std::make_unique<ClientConnection>(
        loop, std::move(session), [this](const Error& why) { lost = why.message(); });
    ASSERT_TRUE(connection->start().ok());
  }
  ~ConnectionTest() override {
    if (connection) connection->abort(Error(std::errc::operation_canceled, "the test is over"));
    if (server) server->join();
  }

  Task<void> read(std::uint64_t offset, Asked& asked) {
    ClientConnection::Call call(*connection,
                                {Command::read, 0, Cookie{}, offset, asked.data.size()});
    call.into = std::as_writable_bytes(std::span(asked.data));
    Result<void> answered = co_await call;
    asked.result.emplace(std::move(answered));
  }
  Task<void> write(std::uint64_t offset, Asked& asked) {
    ClientConnection::Call call(*connection,
                                {Command::write, 0, Cookie{}, offset, asked.data.size()});
    call.payload = std::as_bytes(std::span(asked.data));
    Result<void> answered = co_await call;
    asked.result.emplace(std::move(answered));
  }
  // Many reads at once, each of `length` bytes at a place of its own.
  Task<void> read_all(std::vector<Asked>& all, std::size_t length) {
    std::vector<Task<void>> tasks;
    for (std::size_t i = 0; i < all.size(); ++i) {
      all[i].data.resize(length);
      tasks.push_back(read(i * length, all[i]));
    }
    for (Task<void>& task : tasks) co_await std::move(task);
  }

  RealLoop loop;
  std::optional<ServerThread> server;
  std::unique_ptr<ClientConnection> connection;
  std::string lost;
};

// Data that tells where it was asked for.
std::string bytes_at(std::uint64_t offset, std::size_t length) {
  std::string bytes(length, '\0');
  for (std::size_t i = 0; i < length; ++i) {
    bytes[i] = static_cast<char>((offset + i) / 7 ^ (offset + i) >> 11);
  }
  return bytes;
}

void expect_all(const std::vector<Asked>& all, std::size_t length) {
  for (std::size_t i = 0; i < all.size(); ++i) {
    ASSERT_TRUE(all[i].result->ok()) << i;
    EXPECT_EQ(all[i].data, bytes_at(i * length, length)) << i;
  }
}

TEST_F(ConnectionTest, ManyRequestsAreUnderWayAndAnsweredInAnyOrder) {
  constexpr std::size_t kCount = 64;
  connect(false, [](WireServer& server) {
    std::vector<RequestHeader> asked;
    for (std::size_t i = 0; i < kCount; ++i) asked.push_back(server.request());
    std::reverse(asked.begin(), asked.end());
    for (const RequestHeader& one : asked) {
      server.simple(one.cookie, 0, bytes_at(one.offset, one.length));
    }
  });
  std::vector<Asked> all(kCount);
  ASSERT_TRUE(loop.run([&] { return read_all(all, 4096); }).ok());
  expect_all(all, 4096);
}

TEST_F(ConnectionTest, LargeReadsArriveInTheirPlaces) {
  constexpr std::size_t kLength = 700'001;
  connect(true, [](WireServer& server) {
    std::vector<RequestHeader> asked;
    for (int i = 0; i < 4; ++i) asked.push_back(server.request());
    // Two pieces of each, and those of all mixed.
    for (std::uint64_t from : {std::uint64_t{300'000}, std::uint64_t{0}}) {
      for (const RequestHeader& one : asked) {
        std::size_t length = from == 0 ? 300'000 : kLength - 300'000;
        std::string bytes = bytes_at(one.offset + from, length);
        server.chunk(one.cookie, ChunkType::offset_data,
                     WireServer::data_body(one.offset + from, bytes), from == 0);
      }
    }
  });
  std::vector<Asked> all(4);
  ASSERT_TRUE(loop.run([&] { return read_all(all, kLength); }).ok());
  expect_all(all, kLength);
}

TEST_F(ConnectionTest, APayloadThatFillsTheSocketIsSentBitByBit) {
  Asked asked;
  asked.data = bytes_at(3, 8 << 20);
  connect(false, [&](WireServer& server) {
    RequestHeader header = server.request();
    EXPECT_EQ(server.receive(header.length), bytes_at(3, 8 << 20));
    server.simple(header.cookie);
  });
  ASSERT_TRUE(loop.run([&] { return write(0, asked); }).ok());
  EXPECT_TRUE(asked.result->ok());
}

// Otherwise the caller would free what the socket still has to take.
TEST_F(ConnectionTest, AWriteThatIsAnsweredEarlyEndsWhenItHasBeenSent) {
  Asked asked;
  asked.data = bytes_at(3, 8 << 20);
  bool received = false;
  connect(false, [&](WireServer& server) {
    RequestHeader header = server.request();
    server.simple(header.cookie, 28);
    EXPECT_EQ(server.receive(header.length).size(), header.length);
    received = true;
  });
  ASSERT_TRUE(loop.run([&] { return write(0, asked); }).ok());
  EXPECT_EQ(asked.result->error().code, std::errc::no_space_on_device);
  server->join();
  EXPECT_TRUE(received);
}

TEST_F(ConnectionTest, EveryCallEndsWhenTheServerHangsUp) {
  connect(false, [](WireServer& server) {
    server.request();
    server.request();
    server.hang_up();
  });
  std::vector<Asked> all(8);
  ASSERT_TRUE(loop.run([&] { return read_all(all, 512); }).ok());
  for (Asked& one : all) EXPECT_EQ(one.result->error().code, std::errc::connection_reset);
  EXPECT_FALSE(connection->alive());
  EXPECT_NE(lost, "");
}

TEST_F(ConnectionTest, AViolationEndsTheConnectionWithItsReason) {
  connect(false, [](WireServer& server) {
    RequestHeader header = server.request();
    server.simple(Cookie{static_cast<std::uint64_t>(header.cookie) + (1 << 16)});
    EXPECT_TRUE(server.at_end());
  });
  Asked asked{std::string(512, '.'), {}};
  ASSERT_TRUE(loop.run([&] { return read(0, asked); }).ok());
  EXPECT_EQ(asked.result->error().code, std::errc::connection_reset);
  EXPECT_EQ(lost, "it answers a request that it was not asked");
}

TEST_F(ConnectionTest, ADeadConnectionAnswersAtOnce) {
  connect(false, [](WireServer&) {});
  connection->abort(Error(std::errc::timed_out, "enough"));
  Asked asked{std::string(512, '.'), {}};
  ASSERT_TRUE(loop.run([&] { return read(0, asked); }).ok());
  EXPECT_EQ(asked.result->error().code, std::errc::connection_reset);
  EXPECT_EQ(lost, "enough");
}

TEST_F(ConnectionTest, WhoLeavesSaysSo) {
  connect(false, [](WireServer& server) {
    EXPECT_EQ(server.request().command, Command::disconnect);
    EXPECT_TRUE(server.at_end());
  });
  connection->leave();
  EXPECT_EQ(lost, "");
}

}  // namespace
}  // namespace nbdkit
