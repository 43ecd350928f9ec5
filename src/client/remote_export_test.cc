// SPDX-License-Identifier: BSD-3-Clause
#include "client/remote_export.h"

#include <gtest/gtest.h>

#include <thread>

#include "support/real_loop.h"
#include "support/socket_pair.h"
#include "support/stack.h"
#include "support/test_server.h"
#include "support/unix_listener.h"
#include "support/wire_server.h"

namespace nbdkit {
namespace {

constexpr std::uint64_t kSize = 1 << 20;

class Quiet final : public Log {
 public:
  Quiet() : Log("test", false) {}
  void write(LogLevel, std::string_view, std::string_view text) override {
    lines += std::string(text) + "\n";
  }
  std::string lines;
};

// A client and whatever a test puts behind the socket.
struct RemoteTest : testing::Test {
  ~RemoteTest() override { close(); }

  void listen(std::function<void(UniqueFd)> accepted) {
    listener = std::make_unique<UnixListener>(std::move(accepted));
    options.address = RemoteUnix{listener->path()};
  }
  // Behind it is our own server with a disk that does as it is told.
  void serve() {
    disk = new ScriptedLayer(kSize);
    disk->properties.can_fast_zero = true;
    server = std::make_unique<TestServer>(std::unique_ptr<Layer>(disk));
    listen([this](UniqueFd socket) { EXPECT_TRUE(server->start(std::move(socket), {}).ok()); });
  }
  // One script after the other, each for one connection.
  void script(std::vector<std::function<void(WireServer&)>> all) {
    scripts = std::move(all);
    listen([this](UniqueFd socket) {
      WireServer wire(std::move(socket));
      if (next < scripts.size()) scripts[next++](wire);
    });
  }

  Result<void> open() {
    remote = std::make_unique<RemoteExport>(loop, gate, log, options, lost);
    return loop.run([&] { return remote->open(); });
  }
  void close() {
    if (!remote) return;
    EXPECT_TRUE(loop.run([&] { return remote->close(); }).ok());
    remote.reset();
  }

  Result<std::string> read(std::uint64_t offset, std::size_t length) {
    std::string data(length, '.');
    auto into = std::as_writable_bytes(std::span(data));
    Result<void> result = loop.run([&] { return remote->read(offset, into); });
    if (!result.ok()) return std::move(result).error();
    return data;
  }
  Result<void> write(std::uint64_t offset, std::string_view data, std::uint16_t flags = 0) {
    return loop.run([&] { return remote->write(offset, std::as_bytes(std::span(data)), flags); });
  }
  Result<void> flush() {
    return loop.run([&] { return remote->flush(told); });
  }

  RealLoop loop;
  Gate gate{loop};
  Quiet log;
  LostWrites lost;
  std::uint64_t told = 0;
  RemoteOptions options;
  ScriptedLayer* disk = nullptr;
  std::vector<std::function<void(WireServer&)>> scripts;
  std::size_t next = 0;
  std::unique_ptr<TestServer> server;
  std::unique_ptr<UnixListener> listener;
  std::unique_ptr<RemoteExport> remote;
};

TEST_F(RemoteTest, ReadsWhatWasWritten) {
  serve();
  ASSERT_TRUE(open().ok());
  EXPECT_EQ(remote->agreement().size, kSize);
  ASSERT_TRUE(write(512, "hello").ok());
  EXPECT_EQ(read(510, 9).value(), std::string("\0\0hello\0\0", 9));
  ASSERT_TRUE(flush().ok());
}

TEST_F(RemoteTest, EveryRequestArrivesWithItsFlags) {
  serve();
  ASSERT_TRUE(open().ok());
  ASSERT_TRUE(write(0, "x", command_flag::kFua).ok());
  ASSERT_TRUE(loop.run([&] { return remote->trim(4096, 512, 0); }).ok());
  ASSERT_TRUE(loop.run([&] {
                    return remote->zero(512, 1024, command_flag::kFastZero | command_flag::kNoHole);
                  })
                  .ok());
  ASSERT_TRUE(loop.run([&] { return remote->cache(0, 2048); }).ok());
  ASSERT_EQ(disk->calls.size(), 4u);
  EXPECT_TRUE(disk->calls[0].request.has(RequestFlags::fua));
  EXPECT_EQ(disk->calls[1].request.offset, 4096u);
  EXPECT_EQ(disk->calls[2].request.flags, RequestFlags::fast_zero);
  EXPECT_EQ(disk->calls[3].request.length, 2048u);
}

TEST_F(RemoteTest, TheServersErrorsArriveAsTheyAre) {
  serve();
  ASSERT_TRUE(open().ok());
  disk->fail(Operation::write, {std::errc::no_space_on_device});
  disk->fail(Operation::zero, {std::errc::operation_not_supported});
  EXPECT_EQ(write(0, "x").error().code, std::errc::no_space_on_device);
  auto zero = loop.run([&] { return remote->zero(0, 512, command_flag::kFastZero); });
  EXPECT_EQ(zero.error().code, std::errc::operation_not_supported);
}

TEST_F(RemoteTest, TellsWhichPartsAreHoles) {
  serve();
  disk->extents = {{0, 4096, ExtentType::data}, {4096, kSize - 4096, ExtentType::hole_and_zero}};
  ASSERT_TRUE(open().ok());
  std::vector<StatusExtent> extents;
  ASSERT_TRUE(loop.run([&] { return remote->extents(512, kSize - 512, 0, extents); }).ok());
  std::vector<StatusExtent> expected{{3584, 0}, {kSize - 4096, 3}};
  EXPECT_EQ(extents, expected);
}

TEST_F(RemoteTest, ReadsMoreThanTheServerTakesInSeveralRequests) {
  WireServer::Export about;
  about.block_sizes = wire_number(Info::block_size) + wire_number(std::uint32_t{512}) +
                      wire_number(std::uint32_t{512}) + wire_number(std::uint32_t{1024});
  std::vector<std::uint64_t> lengths;
  script({[&](WireServer& server) {
    server.shake_hands(about);
    for (;;) {
      RequestHeader header = server.request();
      if (header.command == Command::disconnect) return;
      lengths.push_back(header.length);
      std::string data;
      if (header.command == Command::read) data.assign(header.length, 'd');
      server.simple(header.cookie, 0, data);
    }
  }});
  ASSERT_TRUE(open().ok());
  EXPECT_EQ(read(0, 2560).value(), std::string(2560, 'd'));
  ASSERT_TRUE(loop.run([&] { return remote->zero(0, 1536, 0); }).ok());
  close();
  listener->close();
  EXPECT_EQ(lengths, (std::vector<std::uint64_t>{1024, 1024, 512, 1024, 512}));
}

TEST_F(RemoteTest, LengthsOf64BitsAreUsedWhenTheServerHasThem) {
  WireServer::Export about;
  about.size = std::uint64_t{1} << 40;
  std::vector<std::uint64_t> lengths;
  auto serve_one = [&](WireServer& server) {
    server.shake_hands(about);
    for (;;) {
      RequestHeader header = server.request();
      if (header.command == Command::disconnect) return;
      lengths.push_back(header.length);
      if (about.extended) {
        server.chunk(header.cookie, ChunkType::none, "");
      } else {
        server.simple(header.cookie);
      }
    }
  };
  script({serve_one, serve_one});
  for (bool extended : {false, true}) {
    about.extended = extended;
    ASSERT_TRUE(open().ok());
    ASSERT_TRUE(loop.run([&] { return remote->trim(0, std::uint64_t{5} << 30, 0); }).ok());
    close();
  }
  listener->close();
  EXPECT_EQ(lengths, (std::vector<std::uint64_t>{0xffff0000, 0x40010000, std::uint64_t{5} << 30}));
}

TEST_F(RemoteTest, ALostConnectionIsMadeAgainAndNobodyNotices) {
  serve();
  ASSERT_TRUE(open().ok());
  for (int round = 0; round < 5; ++round) {
    listener->break_connections();
    std::string data = fmt::format("round {}", round);
    ASSERT_TRUE(write(0, data).ok()) << log.lines;
    EXPECT_EQ(read(0, data.size()).value(), data);
  }
  EXPECT_EQ(listener->accepted(), 6u);
}

TEST_F(RemoteTest, RequestsUnderWayAreSentAgain) {
  WireServer::Export about;
  auto die = [&](WireServer& server) {
    server.shake_hands(about);
    RequestHeader header = server.request();
    server.receive(header.length);
  };
  auto live = [&](WireServer& server) {
    server.shake_hands(about);
    RequestHeader header = server.request();
    EXPECT_EQ(server.receive(header.length), "precious");
    server.simple(header.cookie);
    EXPECT_EQ(server.request().command, Command::disconnect);
  };
  script({die, die, live});
  ASSERT_TRUE(open().ok());
  EXPECT_TRUE(write(0, "precious").ok()) << log.lines;
  close();
  listener->close();
}

TEST_F(RemoteTest, ARequestThatKillsTheServerEachTimeFailsAlone) {
  WireServer::Export about;
  auto die = [&](WireServer& server) {
    server.shake_hands(about);
    server.request();
  };
  auto live = [&](WireServer& server) {
    server.shake_hands(about);
    server.simple(server.request().cookie);
    server.request();
  };
  script({die, die, die, live});
  ASSERT_TRUE(open().ok());
  auto killed = loop.run([&] { return remote->trim(0, 512, 0); });
  ASSERT_FALSE(killed.ok());
  EXPECT_NE(killed.error().message().find("3 times on the same request"), std::string::npos);
  EXPECT_TRUE(loop.run([&] { return remote->trim(0, 512, 0); }).ok());
  close();
  listener->close();
}

TEST_F(RemoteTest, AnotherExportIsNotTakenForTheOldOne) {
  WireServer::Export about;
  WireServer::Export other;
  other.size *= 2;
  auto other_one = [&](WireServer& server) {
    server.let_client_leave();
    server.shake_hands(other);
  };
  script({[&](WireServer& server) { server.shake_hands(about); }, other_one, other_one, other_one,
          other_one});
  options.reconnect_max = Milliseconds(300);
  ASSERT_TRUE(open().ok());
  auto result = read(0, 512);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, std::errc::io_error);
  EXPECT_NE(log.lines.find("another export: size 2097152 instead of 1048576"), std::string::npos);
  close();
  listener->close();
}

TEST_F(RemoteTest, WhoDoesNotWantToWaitGetsTheErrorAtOnce) {
  serve();
  options.reconnect_max = Nanoseconds(0);
  ASSERT_TRUE(open().ok());
  listener->break_connections();
  Result<std::string> first = read(0, 512);
  Result<std::string> second = read(0, 512);
  EXPECT_EQ(first.error().code, std::errc::io_error);
  EXPECT_EQ(second.error().code, std::errc::io_error);
  EXPECT_EQ(listener->accepted(), 1u);
}

TEST_F(RemoteTest, AfterTheLongestWaitRequestsFailUntilTheServerIsBack) {
  serve();
  options.reconnect_max = Milliseconds(200);
  ASSERT_TRUE(open().ok());
  listener->close();
  listener->break_connections();
  EXPECT_EQ(read(0, 512).error().code, std::errc::io_error);
  listener->open();
  Result<std::string> again = read(0, 512);
  while (!again.ok()) again = read(0, 512);
  EXPECT_EQ(again.value().size(), 512u);
}

TEST_F(RemoteTest, AFlushTellsOnceThatWritesMayBeLost) {
  serve();
  ASSERT_TRUE(open().ok());
  ASSERT_TRUE(write(0, "not flushed").ok());
  listener->break_connections();
  ASSERT_TRUE(read(0, 512).ok());
  auto flushed = flush();
  ASSERT_FALSE(flushed.ok());
  EXPECT_EQ(flushed.error().code, std::errc::io_error);
  EXPECT_TRUE(flush().ok());
}

TEST_F(RemoteTest, WhatWasFlushedOrWrittenThroughIsNotLost) {
  serve();
  ASSERT_TRUE(open().ok());
  ASSERT_TRUE(write(0, "flushed").ok());
  ASSERT_TRUE(flush().ok());
  ASSERT_TRUE(write(0, "through", command_flag::kFua).ok());
  listener->break_connections();
  EXPECT_TRUE(flush().ok());
}

TEST_F(RemoteTest, AServerThatKeepsEverythingIsBelieved) {
  serve();
  options.keeps_unflushed = true;
  ASSERT_TRUE(open().ok());
  ASSERT_TRUE(write(0, "not flushed").ok());
  listener->break_connections();
  EXPECT_TRUE(flush().ok());
}

TEST_F(RemoteTest, SeveralConnectionsShareTheWork) {
  serve();
  options.connections = 4;
  ASSERT_TRUE(open().ok());
  EXPECT_EQ(listener->accepted(), 4u);
  std::string data(64 * 1024, 'm');
  ASSERT_TRUE(write(0, data).ok());
  EXPECT_EQ(read(0, data.size()).value(), data);
  listener->break_connections();
  EXPECT_EQ(read(0, data.size()).value(), data);
}

// One death of the server is one try, however many connections it ends.
TEST_F(RemoteTest, SeveralConnectionsThatAreLostAtOnceAreOneLoss) {
  serve();
  options.connections = 8;
  ASSERT_TRUE(open().ok());
  for (int round = 0; round < 3; ++round) {
    listener->close();
    listener->break_connections();
    std::thread later([this] { listener->open(); });
    EXPECT_TRUE(read(0, 512).ok());
    later.join();
  }
}

TEST_F(RemoteTest, AServerThatAllowsOnlyOneConnectionGetsOne) {
  serve();
  disk->properties.can_multi_conn = false;
  options.connections = 4;
  ASSERT_TRUE(open().ok());
  EXPECT_EQ(listener->accepted(), 1u);
}

TEST_F(RemoteTest, TheFirstConnectionIsTriedAsOftenAsToldTo) {
  serve();
  listener->close();
  EXPECT_EQ(open().error().code, std::errc::no_such_file_or_directory);
  close();
  options.retries = 30;
  std::thread later([this] { listener->open(); });
  EXPECT_TRUE(open().ok());
  later.join();
}

TEST_F(RemoteTest, ASilentServerIsGivenUp) {
  script({[](WireServer& server) { EXPECT_TRUE(server.at_end()); }});
  options.handshake_max = Milliseconds(50);
  auto opened = open();
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().code, std::errc::timed_out);
}

TEST_F(RemoteTest, ANegotiatedSocketIsReadyForSimpleRequests) {
  serve();
  auto negotiated = loop.run([&] { return negotiate_socket(loop, gate, options); });
  ASSERT_TRUE(negotiated.ok());
  EXPECT_EQ(negotiated.value().agreement.size, kSize);
  EXPECT_FALSE(negotiated.value().agreement.structured_replies);
  WireClient client(std::move(negotiated.value().socket));
  WireClient::Answer answer = client.read(0, 512);
  EXPECT_FALSE(answer.structured);
  EXPECT_EQ(answer.data, std::string(512, '\0'));
}

TEST_F(RemoteTest, AnInheritedSocketIsGoodForOneConnection) {
  SocketPair pair;
  server = std::make_unique<TestServer>(std::make_unique<ScriptedLayer>(kSize));
  Result<UniqueFd> theirs = pair.theirs.duplicate();
  ASSERT_TRUE(server->start(std::move(pair.theirs), {}).ok());
  options.address = RemoteSocket{pair.ours.get()};
  ASSERT_TRUE(open().ok());
  EXPECT_TRUE(read(0, 512).ok());
  ::shutdown(theirs.value().get(), SHUT_RDWR);
  EXPECT_EQ(read(0, 512).error().code, std::errc::io_error);
}

TEST_F(RemoteTest, TcpIsConnectedByName) {
  options.address = RemoteTcp{"localhost", "1"};
  auto opened = open();
  ASSERT_FALSE(opened.ok());
  EXPECT_EQ(opened.error().code, std::errc::connection_refused);
  EXPECT_NE(opened.error().message().find("localhost:1"), std::string::npos);
}

}  // namespace
}  // namespace nbdkit
