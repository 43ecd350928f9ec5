// SPDX-License-Identifier: BSD-3-Clause
#include "handoff/handoff_control.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>
#include <future>

#include "handoff/fixture_test.h"
#include "support/open_files.h"

namespace nbdkit {
namespace {

TEST_F(HandoffControlTest, QueryTellsWhatTheExportIs) {
  HandoffPeer::Message answer = peer.ask(kQuery);
  EXPECT_EQ(answer.kind, NBDKIT_HANDOFF_ANSWER);
  EXPECT_EQ(answer.flags, 0u);
  Json body = body_of(answer);
  EXPECT_EQ(body.find("size")->as_unsigned(), kSize);
  EXPECT_EQ(body.find("transmission_flags")->as_unsigned().value() & 3, 1u);
  EXPECT_EQ(body.find("maximum_payload")->as_unsigned(), 64u << 20);
  EXPECT_EQ(body.find("multi_conn")->as_bool(), true);
  EXPECT_EQ(*body.find("survives")->as_string(), "flushed");
  Json kernels = body_of(peer.ask(R"({"verb":"query","peer":"kernel"})"));
  EXPECT_EQ(*kernels.find("survives")->as_string(), "durable") << "it is written through";
  EXPECT_EQ(body.find("shared_open")->as_bool(), true);
  EXPECT_EQ(body.find("swap_fit")->as_bool(), false);
  EXPECT_NE(body.find("identity")->as_string(), nullptr);
  ASSERT_NE(body.find("block_size"), nullptr);
  EXPECT_TRUE(parse_export(body).ok());
}

TEST_F(HandoffControlTest, ReadOnlyDataCannotBeLost) {
  plugin->disk().properties.can_write = false;
  Json body = body_of(peer.ask(kQuery));
  EXPECT_EQ(*body.find("survives")->as_string(), "durable");
}

TEST_F(HandoffControlTest, ASocketIsServedFromItsFirstRequest) {
  WireClient client{UniqueFd()};
  HandoffPeer::Message answer = serve(kServe, client);
  EXPECT_EQ(answer.kind, NBDKIT_HANDOFF_ANSWER);
  Json body = body_of(answer);
  EXPECT_EQ(body.find("id")->as_unsigned(), 1u);
  EXPECT_EQ(body.find("size")->as_unsigned(), kSize);
  EXPECT_EQ(client.write(4096, "hello").error, 0u);
  EXPECT_EQ(client.read(4096, 5).data, "hello");
}

TEST_F(HandoffControlTest, TheKernelIsTreatedAsSuch) {
  plugin->disk().properties.can_trim = false;
  WireClient kernel{UniqueFd()};
  serve(R"({"verb":"serve","mode":"transmission","peer":"kernel"})", kernel);
  EXPECT_EQ(kernel.call(Command::trim, 0, 4096).error, 0u);
  WireClient client{UniqueFd()};
  serve(kServe, client);
  EXPECT_NE(client.call(Command::trim, 0, 4096).error, 0u);
}

TEST_F(HandoffControlTest, AHandshakeIsServedAndAnsweredAtOnce) {
  WireClient client{UniqueFd()};
  HandoffPeer::Message answer = serve(R"({"verb":"serve","mode":"handshake"})", client);
  EXPECT_EQ(answer.body, R"({"id":1})");
  EXPECT_EQ(client.go().size, kSize);
  EXPECT_EQ(client.read(0, 512).error, 0u);
}

TEST_F(HandoffControlTest, WhatTheGiverCountsOnMustBeThere) {
  WireClient client{UniqueFd()};
  auto with = [&](std::string_view keys) {
    std::string body = R"({"verb":"serve","mode":"transmission",)" + std::string(keys) + "}";
    return serve(body, client);
  };
  expect_error(with(R"("size":1048577)"), "mismatch", "has 1048576 bytes, not 1048577");
  EXPECT_TRUE(client.at_end()) << "a refused socket is closed";
  plugin->disk().properties.can_trim = false;
  expect_error(with(R"("flags":32)"), "mismatch", "transmission flags");
  EXPECT_EQ(with(R"("size":1048576,"flags":5)").kind, NBDKIT_HANDOFF_ANSWER);
  plugin->disk().properties.can_write = false;
  expect_error(with(R"("flags":1)"), "mismatch", "the export is read-only");
  EXPECT_EQ(with(R"("flags":3)").kind, NBDKIT_HANDOFF_ANSWER);
}

TEST_F(HandoffControlTest, AnExportThatIsNotThereIsNamed) {
  expect_error(peer.ask(R"({"verb":"query","export":"other"})"), "no-such-export",
               "export \"other\": there is no such disk");
  WireClient client{UniqueFd()};
  expect_error(serve(R"({"verb":"serve","mode":"transmission","export":"other"})", client),
               "no-such-export", "other");
  EXPECT_TRUE(client.at_end());
}

TEST_F(HandoffControlTest, WrongRequestsAreAnsweredAndTheNextOneIsServed) {
  expect_error(peer.ask(R"({"verb":"reboot"})"), "unknown-verb", "reboot: no such verb");
  expect_error(peer.ask(R"({"verb":"query","colour":"red"})"), "unknown-key", "colour");
  expect_error(peer.ask(R"({"verb":"query","peer":"nobody"})"), "bad-value", "peer");
  expect_error(peer.ask("{}"), "bad-message", "verb");
  expect_error(peer.ask(R"({"verb":7})"), "bad-message", "verb");
  expect_error(peer.ask("no JSON"), "bad-message", "the body is");
  HandoffPeer::Header header;
  header.sequence = 9;
  header.version = 7;
  peer.send(header, kQuery);
  HandoffPeer::Message answer = peer.receive();
  EXPECT_EQ(answer.sequence, 9u);
  expect_error(answer, "unsupported-version", "7");
  header = {};
  header.kind = NBDKIT_HANDOFF_ANSWER;
  peer.send(header, kQuery);
  expect_error(peer.receive(), "bad-message", "request");
  peer.send("short");
  answer = peer.receive();
  EXPECT_EQ(answer.sequence, 0u);
  expect_error(answer, "bad-message", "no header");
  EXPECT_EQ(peer.ask(kQuery).kind, NBDKIT_HANDOFF_ANSWER);
}

TEST_F(HandoffControlTest, WrongDescriptorsAreNamedAndClosed) {
  const std::size_t before = open_files();
  {
    expect_error(peer.ask(kServe), "no-descriptor", "serve needs a socket");
    SocketPair pair;
    expect_error(peer.ask(kQuery, pair.theirs.get()), "unexpected-descriptor",
                 "the verb query takes no descriptor");
    UniqueFd file(::open("/proc/self/exe", O_RDONLY | O_CLOEXEC));
    expect_error(peer.ask(kServe, file.get()), "bad-descriptor", "not a socket");
    expect_error(peer.ask(kServe, peer.fd()), "bad-descriptor", "a seqpacket socket (Unix)");
    HandoffPeer::Header header;
    header.flags = NBDKIT_HANDOFF_FLAG_DESCRIPTOR;
    peer.send(header, kServe, {pair.ours.get(), pair.theirs.get()});
    expect_error(peer.receive(), "unexpected-descriptor", "2 descriptors came");
    peer.send(header, kServe, std::vector<int>(100, pair.theirs.get()));
    expect_error(peer.receive(), "bad-message", "lost");
    peer.send("", {pair.theirs.get()});
    expect_error(peer.receive(), "bad-message", "no header");
    pair.theirs.reset();
    char byte;
    EXPECT_EQ(::recv(pair.ours.get(), &byte, 1, 0), 0) << "the server keeps no copy";
  }
  EXPECT_TRUE(open_files_return_to(before));
}

TEST_F(HandoffControlTest, ManyConnectionsLeaveNothing) {
  make_all_loops();
  const std::size_t before = open_files();
  for (int round = 0; round < 300; ++round) {
    WireClient client{UniqueFd()};
    ASSERT_EQ(serve(kServe, client).kind, NBDKIT_HANDOFF_ANSWER);
    ASSERT_EQ(client.read(0, 512).error, 0u);
    ASSERT_EQ(peer.ask("[]").kind, NBDKIT_HANDOFF_ERROR);
  }
  EXPECT_TRUE(open_files_return_to(before));
}

TEST_F(HandoffControlTest, RequestsMayBeSentAheadOfTheirAnswers) {
  constexpr std::uint64_t kMany = 10 * HandoffControl::kRequestsMax;
  std::thread sender([&] {
    for (std::uint64_t i = 0; i < kMany; ++i) {
      HandoffPeer::Header header;
      header.sequence = i;
      EXPECT_TRUE(peer.send(header, kQuery));
    }
  });
  std::vector<bool> answered(kMany);
  for (std::uint64_t i = 0; i < kMany; ++i) {
    HandoffPeer::Message answer = peer.receive();
    EXPECT_EQ(answer.kind, NBDKIT_HANDOFF_ANSWER);
    ASSERT_LT(answer.sequence, kMany);
    EXPECT_FALSE(answered[answer.sequence]);
    answered[answer.sequence] = true;
  }
  sender.join();
}

TEST_F(HandoffControlTest, APeerThatTakesNoAnswersGetsThemLater) {
  // Until nothing more goes in: the requests that wait are in the socket then.
  int sent = 0;
  HandoffPeer::Header header;
  ASSERT_EQ(::fcntl(peer.fd(), F_SETFL, O_NONBLOCK), 0);
  for (int tries = 0; tries < 100; ++tries) {
    if (peer.send(header, kQuery)) {
      ++sent;
      tries = 0;
    } else {
      ::sched_yield();
    }
  }
  ASSERT_EQ(::fcntl(peer.fd(), F_SETFL, 0), 0);
  for (int i = 0; i < sent; ++i) ASSERT_EQ(peer.receive().kind, NBDKIT_HANDOFF_ANSWER);
  EXPECT_EQ(peer.ask(kQuery).kind, NBDKIT_HANDOFF_ANSWER);
}

TEST_F(HandoffControlTest, TheEndOfThePeerIsToldAndItsConnectionsLiveOn) {
  WireClient client{UniqueFd()};
  serve(kServe, client);
  peer.close();
  lost.get_future().wait();
  EXPECT_EQ(client.write(0, "still here").error, 0u);
}

TEST_F(HandoffControlTest, APeerThatLeavesWhileAllHandsAreFullIsNoticed) {
  HandoffPeer::Header header;
  for (std::size_t i = 0; i < 3 * HandoffControl::kRequestsMax; ++i) {
    peer.send(header, R"({"verb":"query","export":"slow"})");
  }
  peer.close();
  EXPECT_EQ(lost.get_future().wait_for(std::chrono::seconds(10)), std::future_status::ready);
  plugin->let_slow_ones_go();
}

TEST_F(HandoffControlTest, StopWaitsForWhatIsUnderWay) {
  SocketPair pair;
  HandoffPeer::Header header;
  header.flags = NBDKIT_HANDOFF_FLAG_DESCRIPTOR;
  peer.send(header, R"({"verb":"serve","mode":"transmission","export":"slow"})",
            {pair.theirs.get()});
  ASSERT_EQ(peer.ask(kQuery).kind, NBDKIT_HANDOFF_ANSWER) << "so the first one has been read";
  pair.theirs.reset();
  std::thread helper([&] { plugin->let_slow_ones_go(); });
  stop();
  helper.join();
  WireClient client{std::move(pair.ours)};
  EXPECT_EQ(client.read(0, 512).error, 0u) << "what was given is served";
}

TEST_F(HandoffControlTest, StopEndsTheTalkAndNotTheConnections) {
  WireClient client{UniqueFd()};
  serve(kServe, client);
  stop();
  EXPECT_TRUE(peer.at_end());
  EXPECT_EQ(lost.get_future().wait_for(std::chrono::seconds(0)), std::future_status::timeout);
  EXPECT_EQ(client.read(0, 512).error, 0u);
}

}  // namespace
}  // namespace nbdkit
