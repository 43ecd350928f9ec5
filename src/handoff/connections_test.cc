// SPDX-License-Identifier: BSD-3-Clause
// The verbs about connections that are there, and the events, through a control socket.
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <regex>
#include <string>
#include <thread>

#include "async/post.h"
#include "handoff/fixture_test.h"
#include "support/open_files.h"

namespace nbdkit {
namespace {

constexpr std::string_view kList = R"({"verb":"list"})";
constexpr std::string_view kHandshake = R"({"verb":"serve","mode":"handshake"})";

class ConnectionsTest : public HandoffControlTest {
 protected:
  // The objects that list answers, as text.
  std::string list(std::string_view after = "0") {
    HandoffPeer::Message answer = peer.ask(R"({"verb":"list","after":)" + std::string(after) + "}");
    EXPECT_EQ(answer.kind, NBDKIT_HANDOFF_ANSWER) << answer.body;
    return body_of(answer).find("connections")->dump();
  }
  HandoffPeer::Message about(std::string_view verb, std::uint64_t id, std::string_view more = "") {
    return peer.ask(R"({"verb":")" + std::string(verb) + R"(","id":)" + std::to_string(id) +
                    std::string(more) + "}");
  }
  void wait_for_requests(std::size_t count) {
    while (plugin->disk().arrived < count) std::this_thread::yield();
  }
  // An event, or an answer that came before it.
  std::string next() {
    HandoffPeer::Message message = peer.receive();
    EXPECT_EQ(message.kind, NBDKIT_HANDOFF_EVENT);
    EXPECT_EQ(message.sequence, 0u);
    return message.body;
  }
  // A second control socket, of this user.
  std::unique_ptr<HandoffControl> control_of(uid_t user, HandoffPeer& other) {
    HandoffSockets ends;
    other = HandoffPeer(std::move(ends.ours));
    std::unique_ptr<HandoffControl> made;
    EXPECT_TRUE(server
                    .on_main_loop([&] {
                      made = std::make_unique<HandoffControl>(server.main_loop(), server.server(),
                                                              server.log_sink(), terms,
                                                              std::move(ends.theirs), user);
                      return Task<void>(made->start([] {}));
                    })
                    .ok());
    return made;
  }
  void end(std::unique_ptr<HandoffControl> one) {
    EXPECT_TRUE(server.on_main_loop([&] { return one->stop(); }).ok());
    EXPECT_TRUE(server
                    .on_main_loop([&] {
                      one.reset();
                      return Task<void>(Result<void>());
                    })
                    .ok());
  }
};

TEST_F(ConnectionsTest, ListShowsWhatIsThere) {
  EXPECT_EQ(list(), "[]");
  WireClient served{UniqueFd()};
  serve(R"({"verb":"serve","mode":"transmission","peer":"kernel"})", served);
  WireClient shaking{UniqueFd()};
  serve(kHandshake, shaking);
  std::string user = std::to_string(::geteuid());
  const std::string found = std::regex_replace(list(), std::regex(R"("cookie":[1-9][0-9]*)"), "C");
  EXPECT_EQ(found,
            R"([{"id":1,"user":)" + user +
                R"(,"mode":"transmission","phase":"transmission","export":"disk",)"
                R"("peer":"kernel",C},{"id":2,"user":)" +
                user +
                R"(,"mode":"handshake","phase":"handshake","export":"","peer":"client",C}])");
  EXPECT_EQ(shaking.go("disk").size, kSize);
  // The client may know before the list does.
  while (list("1").find(R"("phase":"transmission","export":"disk")") == std::string::npos) {
    std::this_thread::yield();
  }
  EXPECT_EQ(list("2"), "[]");
}

TEST_F(ConnectionsTest, ALongListComesInParts) {
  std::vector<WireClient> clients;
  for (std::size_t i = 0; i <= HandoffList::kConnectionsMax; ++i) {
    clients.emplace_back(UniqueFd());
    ASSERT_EQ(serve(kServe, clients.back()).kind, NBDKIT_HANDOFF_ANSWER);
  }
  Json first = body_of(peer.ask(kList));
  EXPECT_EQ(first.find("connections")->as_array()->size(), HandoffList::kConnectionsMax);
  EXPECT_EQ(first.find("more")->as_bool(), true);
  Json rest = body_of(peer.ask(R"({"verb":"list","after":128})"));
  EXPECT_EQ(rest.find("connections")->as_array()->size(), 1u);
  EXPECT_EQ(rest.find("more")->as_bool(), false);
}

TEST_F(ConnectionsTest, CloseAnswersWhenTheConnectionHasEnded) {
  WireClient client{UniqueFd()};
  serve(kServe, client);
  plugin->disk().set_delay(Milliseconds(50));
  client.request(Command::read, 7, 0, 512);
  wait_for_requests(1);
  EXPECT_EQ(about("close", 1).body, "{}");
  EXPECT_EQ(list(), "[]");
  EXPECT_EQ(client.answer(512).cookie, 7u) << "what was received is answered";
  EXPECT_TRUE(client.at_end());
  expect_error(about("close", 1), "no-such-connection", "there is no connection 1");
}

TEST_F(ConnectionsTest, CloseWithoutDrainSendsNothingMore) {
  WireClient client{UniqueFd()};
  serve(kServe, client);
  plugin->disk().set_delay(Milliseconds(50));
  client.request(Command::read, 7, 0, 512);
  wait_for_requests(1);
  EXPECT_EQ(about("close", 1, R"(,"drain":false)").body, "{}");
  EXPECT_TRUE(client.at_end());
}

TEST_F(ConnectionsTest, AHeldConnectionIsServedWhenItIsToGoOn) {
  WireClient client{UniqueFd()};
  HandoffPeer::Message served =
      serve(R"({"verb":"serve","mode":"transmission","hold":true})", client);
  EXPECT_EQ(body_of(served).find("size")->as_unsigned(), kSize) << "the export is open";
  client.request(Command::read, 7, 0, 512);
  EXPECT_NE(list().find(R"("phase":"held")"), std::string::npos);
  expect_error(about("take-over", 1), "not-movable", "held");
  EXPECT_EQ(plugin->disk().arrived, 0u);
  EXPECT_EQ(about("go-on", 1).body, "{}");
  EXPECT_EQ(client.answer(512).cookie, 7u);
  EXPECT_NE(list().find(R"("phase":"transmission")"), std::string::npos);
  expect_error(about("go-on", 1), "bad-value", "connection 1: it is not held");
  expect_error(about("go-on", 2), "no-such-connection", "2");
}

TEST_F(ConnectionsTest, AHeldConnectionThatIsClosedHasReadNothing) {
  SocketPair pair;
  WireClient client(std::move(pair.ours));
  constexpr std::string_view kHeld = R"({"verb":"serve","mode":"transmission","hold":true})";
  EXPECT_EQ(peer.ask(kHeld, pair.theirs.get()).kind, NBDKIT_HANDOFF_ANSWER);
  client.request(Command::read, 7, 0, 512);
  EXPECT_EQ(about("close", 1, R"(,"drain":false)").body, "{}");
  EXPECT_EQ(list(), "[]");
  EXPECT_EQ(peer.ask(kServe, pair.theirs.get()).kind, NBDKIT_HANDOFF_ANSWER);
  EXPECT_EQ(client.answer(512).cookie, 7u);
}

TEST_F(ConnectionsTest, AServerThatStopsDoesNotWaitForHeldOnes) {
  WireClient client{UniqueFd()};
  serve(R"({"verb":"serve","mode":"transmission","hold":true})", client);
  stop();
  server.stop();
  EXPECT_TRUE(client.at_end());
}

TEST_F(ConnectionsTest, AHandshakeCanBeClosed) {
  WireClient client{UniqueFd()};
  serve(kHandshake, client);
  client.greet();
  EXPECT_EQ(about("close", 1).body, "{}");
  EXPECT_TRUE(client.at_end());
}

TEST_F(ConnectionsTest, AConnectionThatMovesIsServedOnElsewhere) {
  WireClient client{UniqueFd()};
  serve(R"({"verb":"serve","mode":"transmission","export":"disk","peer":"kernel"})", client);
  EXPECT_EQ(client.write(0, "before").error, 0u);
  plugin->disk().set_delay(Milliseconds(50));
  // One request under way, one whose payload is cut, and the beginning of a header behind it.
  std::string write = WireClient::packet(Command::write, 12, 4096, 5, 0, "after");
  std::string read = WireClient::packet(Command::read, 13, 4096, 5);
  client.request(Command::read, 11, 0, 6);
  client.send(write.substr(0, write.size() - 2));
  wait_for_requests(2);
  std::thread rest([&] {
    HandoffPeer::Header header;
    header.sequence = 5;
    peer.send(header, R"({"verb":"take-over","id":1})");
    std::this_thread::sleep_for(Milliseconds(20));  // While it is being drained, most likely.
    client.send(write.substr(write.size() - 2) + read.substr(0, 10));
  });
  HandoffPeer::Message answer = peer.receive();
  rest.join();
  ASSERT_EQ(answer.kind, NBDKIT_HANDOFF_ANSWER) << answer.body;
  ASSERT_TRUE(answer.descriptor);
  EXPECT_EQ(client.answer(6).data, "before");
  EXPECT_EQ(client.answer().cookie, 12u);
  Json body = body_of(answer);
  EXPECT_EQ(body.find("size")->as_unsigned(), kSize);
  EXPECT_EQ(*body.find("export")->as_string(), "disk");
  EXPECT_EQ(*body.find("peer")->as_string(), "kernel");
  EXPECT_EQ(list(), "[]");

  plugin->disk().set_delay(Nanoseconds(0));
  Json again = Json::object();
  again.set("verb", "serve").set("mode", "transmission");
  for (const char* key : {"export", "peer", "size", "flags", "state"}) {
    again.set(key, *body.find(key));
  }
  HandoffPeer::Message served = peer.ask(again.dump(), answer.descriptor.get());
  EXPECT_EQ(served.kind, NBDKIT_HANDOFF_ANSWER) << served.body;
  client.send(read.substr(10));
  EXPECT_EQ(client.answer(5).data, "after");
}

TEST_F(ConnectionsTest, WhatWasNegotiatedMovesAlong) {
  WireClient client{UniqueFd()};
  serve(kHandshake, client);
  EXPECT_EQ(client.go("disk", true, true).size, kSize);
  client.send(WireClient::packet(Command::read, 9, 0, 512).substr(0, 27));
  // The answer to this says that the bytes before it have been received.
  HandoffPeer::Message answer = about("take-over", 1);
  Json body = body_of(answer);
  EXPECT_EQ(body.find("state")->find("structured_replies")->as_bool(), true);
  EXPECT_EQ(body.find("state")->find("contexts")->dump(), R"({"base:allocation":1})");
  std::string again = R"({"verb":"serve","mode":"transmission","export":"disk","flags":)" +
                      body.find("flags")->dump() + R"(,"state":)" + body.find("state")->dump() +
                      "}";
  EXPECT_EQ(peer.ask(again, answer.descriptor.get()).kind, NBDKIT_HANDOFF_ANSWER);
  client.send(WireClient::packet(Command::read, 9, 0, 512).substr(27));
  EXPECT_TRUE(client.answer(512).structured);
  EXPECT_FALSE(client.call(Command::block_status, 0, 4096).extents.empty());
}

TEST_F(ConnectionsTest, ExtendedHeadersMoveAlong) {
  WireClient client{UniqueFd()};
  serve(kHandshake, client);
  client.greet();
  EXPECT_EQ(client.use_extended_headers(), OptionReply::ack);
  EXPECT_EQ(client.option(Option::go, WireClient::go_data("disk")).back().type, OptionReply::ack);
  HandoffPeer::Message answer = about("take-over", 1);
  Json body = body_of(answer);
  EXPECT_EQ(body.find("state")->find("extended_headers")->as_bool(), true);
  std::string again = R"({"verb":"serve","mode":"transmission","export":"disk","state":)" +
                      body.find("state")->dump() + "}";
  EXPECT_EQ(peer.ask(again, answer.descriptor.get()).kind, NBDKIT_HANDOFF_ANSWER);
  EXPECT_EQ(client.read(0, 512).data.size(), 512u);
}

// Also when the export there has others: the client knows only these.
TEST_F(ConnectionsTest, AgreedBlockSizesMoveAlong) {
  plugin->disk().properties.block_size = {512, 4096, 65536};
  WireClient client{UniqueFd()};
  serve(kHandshake, client);
  client.greet();
  client.option(Option::go, WireClient::go_data("disk", {Info::block_size}));
  HandoffPeer::Message answer = about("take-over", 1);
  Json state = *body_of(answer).find("state");
  EXPECT_EQ(state.find("block_size")->find("maximum")->as_unsigned(), 65536u);
  plugin->disk().properties.block_size = {4096, 4096, 4096};
  std::string again =
      R"({"verb":"serve","mode":"transmission","export":"disk","state":)" + state.dump() + "}";
  EXPECT_EQ(peer.ask(again, answer.descriptor.get()).kind, NBDKIT_HANDOFF_ANSWER);
  EXPECT_EQ(client.read(512, 65536).error, 0u);
  EXPECT_EQ(client.read(1, 512).error, 22u);
  EXPECT_EQ(client.read(0, 65536 + 512).error, 22u);
}

TEST_F(ConnectionsTest, WhoHasNotAskedForBlockSizesIsNotHeldToThemElsewhere) {
  plugin->disk().properties.block_size = {512, 4096, 65536};
  WireClient client{UniqueFd()};
  serve(kHandshake, client);
  client.greet();
  client.option(Option::go, WireClient::go_data("disk"));
  HandoffPeer::Message answer = about("take-over", 1);
  std::string again = R"({"verb":"serve","mode":"transmission","export":"disk","state":)" +
                      body_of(answer).find("state")->dump() + "}";
  EXPECT_EQ(peer.ask(again, answer.descriptor.get()).kind, NBDKIT_HANDOFF_ANSWER);
  EXPECT_EQ(client.read(1, 512).error, 0u);
}

TEST_F(ConnectionsTest, ATakeOverThatTakesTooLongChangesNothing) {
  WireClient client{UniqueFd()};
  serve(kServe, client);
  plugin->disk().set_delay(Milliseconds(300));
  client.request(Command::read, 1, 0, 512);
  wait_for_requests(1);
  expect_error(about("take-over", 1, R"(,"limit_ms":1)"), "timeout", "connection 1: ");
  EXPECT_EQ(client.answer(512).cookie, 1u);
  plugin->disk().set_delay(Nanoseconds(0));
  EXPECT_EQ(client.write(0, "on").error, 0u);
  EXPECT_TRUE(about("take-over", 1).descriptor);
}

TEST_F(ConnectionsTest, AHalfPayloadThatNeverEndsIsNoReasonToLoseTheClient) {
  WireClient client{UniqueFd()};
  serve(kServe, client);
  std::string write = WireClient::packet(Command::write, 3, 0, 8, 0, "complete");
  client.send(write.substr(0, 30));
  expect_error(about("take-over", 1, R"(,"limit_ms":50)"), "timeout", "");
  client.send(write.substr(30));
  EXPECT_EQ(client.answer().cookie, 3u);
  EXPECT_EQ(client.read(0, 8).data, "complete");
}

TEST_F(ConnectionsTest, OnlyTheTransmissionPhaseMoves) {
  WireClient client{UniqueFd()};
  serve(kHandshake, client);
  expect_error(about("take-over", 1), "not-movable", "connection 1: ");
  EXPECT_EQ(client.go("disk").size, kSize);
  expect_error(about("take-over", 9), "no-such-connection", "9");
}

TEST_F(ConnectionsTest, WhoLeavesBeforeTheAnswerDoesNotTakeTheClientAlong) {
  WireClient client{UniqueFd()};
  serve(kServe, client);
  plugin->disk().set_delay(Milliseconds(100));
  client.request(Command::read, 1, 0, 512);
  wait_for_requests(1);
  HandoffPeer::Header header;
  peer.send(header, R"({"verb":"take-over","id":1})");
  peer.close();
  EXPECT_EQ(client.answer(512).cookie, 1u);
  plugin->disk().set_delay(Nanoseconds(0));
  EXPECT_EQ(client.write(0, "still here").error, 0u);
}

TEST_F(ConnectionsTest, OneSocketIsServedOnlyOnce) {
  SocketPair pair;
  WireClient client(std::move(pair.ours));
  EXPECT_EQ(peer.ask(kServe, pair.theirs.get()).kind, NBDKIT_HANDOFF_ANSWER);
  expect_error(peer.ask(kServe, pair.theirs.get()), "bad-descriptor",
               "the socket is served already, as connection 1");
  EXPECT_EQ(client.write(0, "x").error, 0u);
}

TEST_F(ConnectionsTest, SubscribersAreTold) {
  EXPECT_EQ(peer.ask(R"({"verb":"subscribe"})").body, "{}");
  SocketPair pair;
  WireClient client(std::move(pair.ours));
  HandoffPeer::Header header;
  header.flags = NBDKIT_HANDOFF_FLAG_DESCRIPTOR;
  peer.send(header, kServe, {pair.theirs.get()});
  EXPECT_NE(next().find(R"({"id":1,)"), std::string::npos);
  EXPECT_EQ(peer.receive().kind, NBDKIT_HANDOFF_ANSWER);
  client.request(Command::disconnect, 1, 0, 0);
  EXPECT_EQ(next(), R"({"event":"ended","id":1,"reason":"disconnected"})");
}

TEST_F(ConnectionsTest, ASubscriberWhoDoesNotReadMissesEvents) {
  EXPECT_EQ(peer.ask(R"({"verb":"subscribe"})").body, "{}");
  HandoffPeer other{UniqueFd()};
  std::unique_ptr<HandoffControl> second = control_of(::geteuid(), other);
  constexpr std::uint64_t kMany = 2000;
  for (std::uint64_t i = 0; i < kMany; ++i) {
    SocketPair pair;
    ASSERT_EQ(other.ask(kServe, pair.theirs.get()).kind, NBDKIT_HANDOFF_ANSWER);
  }
  std::uint64_t told = 0;
  std::uint64_t missed = 0;
  while (told + missed < 2 * kMany) {
    Json event = body_of(peer.receive());
    bool gap = *event.find("event")->as_string() == "missed";
    if (gap) missed += event.find("count")->as_unsigned().value();
    told += !gap;
  }
  EXPECT_GT(missed, 0u);
  end(std::move(second));
}

TEST_F(ConnectionsTest, AnotherUsersConnectionsAreOutOfReach) {
  WireClient client{UniqueFd()};
  serve(kServe, client);
  HandoffPeer stranger{UniqueFd()};
  std::unique_ptr<HandoffControl> control = control_of(12345, stranger);
  EXPECT_EQ(stranger.ask(kList).body, R"({"connections":[],"more":false})");
  expect_error(stranger.ask(R"({"verb":"close","id":1})"), "no-such-connection", "1");
  expect_error(stranger.ask(R"({"verb":"take-over","id":1})"), "no-such-connection", "1");
  EXPECT_EQ(stranger.ask(R"({"verb":"subscribe"})").body, "{}");
  SocketPair own;
  HandoffPeer::Header header;
  header.flags = NBDKIT_HANDOFF_FLAG_DESCRIPTOR;
  stranger.send(header, kServe, {own.theirs.get()});
  EXPECT_NE(stranger.receive().body.find(R"("user":12345)"), std::string::npos);
  EXPECT_EQ(stranger.receive().kind, NBDKIT_HANDOFF_ANSWER);
  EXPECT_NE(list().find(R"("id":2,"user":12345)"), std::string::npos)
      << "the server's user sees all";
  client.close();
  while (list().find(R"("id":1)") != std::string::npos) std::this_thread::yield();
  EXPECT_EQ(stranger.ask(kQuery).kind, NBDKIT_HANDOFF_ANSWER) << "and no event before that";
  end(std::move(control));
}

TEST_F(ConnectionsTest, TlsCannotBeLeftOutOnANetwork) {
  terms.tls_required = true;
  UniqueFd listener(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::listen(listener.get(), 1), 0);
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  auto* name = reinterpret_cast<sockaddr*>(&address);
  ASSERT_EQ(::getsockname(listener.get(), name, &length), 0);
  UniqueFd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::connect(client.get(), name, length), 0);
  UniqueFd accepted(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  expect_error(peer.ask(kServe, accepted.get()), "forbidden", "TLS");
  EXPECT_EQ(
      peer.ask(R"({"verb":"serve","mode":"transmission","insecure":true})", accepted.get()).kind,
      NBDKIT_HANDOFF_ANSWER);
  WireClient local{UniqueFd()};
  EXPECT_EQ(serve(kServe, local).kind, NBDKIT_HANDOFF_ANSWER);
}

TEST_F(ConnectionsTest, WrongKeysAreNamed) {
  expect_error(peer.ask(R"({"verb":"list","id":1})"), "unknown-key", "id");
  expect_error(peer.ask(R"({"verb":"list","after":-1})"), "bad-value", "after: must be");
  expect_error(peer.ask(R"({"verb":"close"})"), "bad-value", "id: must be");
  expect_error(peer.ask(R"({"verb":"close","id":"1"})"), "bad-value", "id: must be");
  expect_error(peer.ask(R"({"verb":"close","id":1,"drain":1})"), "bad-value", "drain: must be");
  expect_error(peer.ask(R"({"verb":"take-over","id":1,"limit_ms":0})"), "bad-value", "limit_ms");
  expect_error(peer.ask(R"({"verb":"take-over","id":1,"limit_ms":60001})"), "bad-value",
               "limit_ms: must be a number from 1 to 60000");
  expect_error(peer.ask(R"({"verb":"subscribe","to":"all"})"), "unknown-key", "to");
  expect_error(peer.ask(R"({"verb":"go-on"})"), "bad-value", "id: must be");
  SocketPair pair;
  auto with = [&](std::string_view state) {
    return peer.ask(R"({"verb":"serve","mode":"transmission","state":)" + std::string(state) + "}",
                    pair.theirs.get());
  };
  expect_error(with("7"), "bad-value", "state");
  expect_error(peer.ask(R"({"verb":"serve","mode":"handshake","hold":true})", pair.theirs.get()),
               "bad-value", "hold: must be absent");
  expect_error(with(R"({"unread":"0"})"), "bad-value", "unread");
  expect_error(with(R"({"unread":"0g"})"), "bad-value", "unread");
  expect_error(with(R"({"unread":")" + std::string(56, '0') + R"("})"), "bad-value", "unread");
  expect_error(with(R"({"structured_replies":true,"extended_headers":true,"unread":")" +
                    std::string(64, '0') + R"("})"),
               "bad-value", "unread");
  expect_error(with(R"({"extended_headers":true})"), "bad-value", "extended_headers");
  expect_error(with(R"({"contexts":{"qemu:x":1}})"), "bad-value", "contexts");
  expect_error(with(R"({"contexts":{"base:allocation":1}})"), "bad-value", "contexts");
  expect_error(with(R"({"structured_replies":true,"contexts":{"qemu:allocation-depth":1}})"),
               "bad-value", "contexts");
  expect_error(with(R"({"block_size":true})"), "bad-value", "block_size");
  expect_error(with(R"({"block_size":{"minimum":3,"preferred":4096,"maximum":8192}})"), "bad-value",
               "block_size");
  expect_error(with(R"({"tls":true})"), "unknown-key", "tls");
}

}  // namespace
}  // namespace nbdkit
