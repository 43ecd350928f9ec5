// SPDX-License-Identifier: BSD-3-Clause
#include "handoff/handoff_client.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <array>

#include "lib/handoff/handoff_wire.h"
#include "support/handoff_peer.h"
#include "support/open_files.h"
#include "support/socket_pair.h"
#include "support/test_loop.h"

namespace nbdkit {
namespace {

constexpr std::string_view kExport =
    R"({"size":4096,"transmission_flags":3,"maximum_payload":33554432,"survives":"durable"})";

// A server that is played by the test, which speaks first: the sequence numbers count from 1.
class HandoffClientTest : public testing::Test {
 protected:
  HandoffClientTest() {
    EXPECT_TRUE(client->start([this](Error error) { lost.emplace(std::move(error)); }).ok());
  }

  void say(std::uint64_t sequence, std::uint16_t kind, std::string_view body,
           const std::vector<int>& descriptors = {}) {
    HandoffPeer::Header header;
    header.kind = kind;
    header.sequence = sequence;
    header.flags = descriptors.empty() ? 0 : NBDKIT_HANDOFF_FLAG_DESCRIPTOR;
    EXPECT_TRUE(server.send(header, body, descriptors));
  }
  void answer(std::uint64_t sequence, std::string_view body) {
    say(sequence, NBDKIT_HANDOFF_ANSWER, body);
  }
  Result<HandoffExport> query() {
    HandoffQuery request;
    return loop.run(client->query(request));
  }
  void expect_failure(const Result<HandoffExport>& result, std::errc code, std::string_view words) {
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().code, code) << result.error().message();
    EXPECT_NE(result.error().message().find(words), std::string::npos) << result.error().message();
  }

  TestLoop loop;
  HandoffSockets sockets;
  HandoffPeer server{std::move(sockets.theirs)};
  std::optional<HandoffClient> client{std::in_place, loop, std::move(sockets.ours)};
  std::optional<Error> lost;
};

TEST_F(HandoffClientTest, AQueryIsAskedAndAnswered) {
  answer(1, kExport);
  HandoffQuery request{"name", true};
  Result<HandoffExport> info = loop.run(client->query(request));
  ASSERT_TRUE(info.ok()) << info.error().message();
  EXPECT_EQ(info.value().size, 4096u);
  EXPECT_TRUE(info.value().read_only());
  EXPECT_EQ(info.value().survives, Survives::durable);
  HandoffPeer::Message asked = server.receive();
  EXPECT_EQ(asked.kind, NBDKIT_HANDOFF_REQUEST);
  EXPECT_EQ(asked.body, R"({"verb":"query","export":"name","peer":"kernel"})");
}

TEST_F(HandoffClientTest, ASocketIsGivenAndStaysTheGivers) {
  std::array<int, 2> ends;
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
  UniqueFd ours(ends[0]);
  UniqueFd given(ends[1]);
  answer(1, R"({"id":7,"size":4096,"transmission_flags":3,"maximum_payload":33554432})");
  HandoffServe request;
  request.kernel = true;
  request.size = 4096;
  Result<HandoffServed> served = loop.run(client->serve(given.get(), request));
  ASSERT_TRUE(served.ok()) << served.error().message();
  EXPECT_EQ(served.value().id, 7u);
  EXPECT_EQ(served.value().info->size, 4096u);
  EXPECT_GE(::fcntl(given.get(), F_GETFD), 0);
  HandoffPeer::Message asked = server.receive();
  EXPECT_EQ(asked.flags, NBDKIT_HANDOFF_FLAG_DESCRIPTOR);
  EXPECT_EQ(asked.body,
            R"({"verb":"serve","mode":"transmission","export":"","peer":"kernel","size":4096})");
}

TEST_F(HandoffClientTest, ASocketIsTakenOver) {
  SocketPair pair;
  say(1, NBDKIT_HANDOFF_ANSWER,
      R"({"id":7,"export":"e","peer":"kernel","size":4096,"flags":3,"state":{"unread":"2560"}})",
      {pair.theirs.get()});
  Result<HandoffMoved> moved = loop.run(client->take_over(7, Milliseconds(500)));
  ASSERT_TRUE(moved.ok()) << moved.error().message();
  EXPECT_EQ(moved.value().size, 4096u);
  EXPECT_EQ(moved.value().state.unread.size(), 2u);
  EXPECT_TRUE(moved.value().socket);
  EXPECT_EQ(server.receive().body, R"({"verb":"take-over","id":7,"limit_ms":500})");
}

TEST_F(HandoffClientTest, ARefusedTakeOverHasChangedNothing) {
  say(1, NBDKIT_HANDOFF_ERROR, R"({"code":"timeout","message":"connection 7: too long"})");
  Result<HandoffMoved> moved = loop.run(client->take_over(7, Milliseconds(500)));
  ASSERT_FALSE(moved.ok());
  EXPECT_TRUE(is_refusal(moved.error()));
}

TEST_F(HandoffClientTest, ATakeOverWithoutItsSocketIsNone) {
  answer(1, R"({"id":7,"size":4096,"flags":3,"state":{}})");
  Result<HandoffMoved> moved = loop.run(client->take_over(7, Milliseconds(500)));
  ASSERT_FALSE(moved.ok());
  EXPECT_FALSE(is_refusal(moved.error()));
  answer(2, R"({"id":7,"size":4096,"flags":3})");
  moved = loop.run(client->take_over(7, Milliseconds(500)));
  EXPECT_EQ(moved.error().message(), "the server's answer has no valid state");
}

TEST_F(HandoffClientTest, ConnectionsAreListed) {
  answer(1,
         R"({"connections":[{"id":3,"user":0,"mode":"transmission","phase":"transmission",)"
         R"("export":"","peer":"kernel"},{"id":4,"phase":"held","peer":"client"}],"more":false})");
  Result<std::vector<HandoffListed>> listed = loop.run(client->list());
  ASSERT_TRUE(listed.ok()) << listed.error().message();
  ASSERT_EQ(listed.value().size(), 2u);
  EXPECT_TRUE(listed.value()[0].kernel && listed.value()[0].transmitting);
  EXPECT_FALSE(listed.value()[1].kernel || listed.value()[1].transmitting);
  answer(2, R"({"connections":[{"user":0}]})");
  EXPECT_EQ(loop.run(client->list()).error().message(), "the server's answer has no valid id");
}

TEST_F(HandoffClientTest, AnswersMayComeInAnyOrder) {
  HandoffQuery request;
  std::optional<Result<HandoffExport>> first;
  finish(client->query(request),
         [&](Result<HandoffExport> result) { first.emplace(std::move(result)); });
  Task<HandoffExport> second = client->query(request);
  answer(2, R"({"size":2,"transmission_flags":1,"maximum_payload":1})");
  answer(1, R"({"size":1,"transmission_flags":1,"maximum_payload":1})");
  EXPECT_EQ(loop.run(std::move(second)).value().size, 2u);
  ASSERT_TRUE(first.has_value());
  EXPECT_EQ(first->value().size, 1u);
}

TEST_F(HandoffClientTest, ASilentServerIsGivenUpAndItsLateAnswerIgnored) {
  expect_failure(query(), std::errc::timed_out, "did not answer in time");
  EXPECT_EQ(loop.elapsed(), Nanoseconds(HandoffClient::kCallMax));
  answer(1, kExport);
  answer(2, kExport);
  EXPECT_TRUE(query().ok());
  EXPECT_FALSE(lost.has_value());
}

TEST_F(HandoffClientTest, ARefusalIsTheServersSentence) {
  say(1, NBDKIT_HANDOFF_ERROR, R"({"code":"mismatch","message":"it is smaller"})");
  expect_failure(query(), std::errc::invalid_argument, "it is smaller");
  say(2, NBDKIT_HANDOFF_ERROR, R"({"code":"unknown-verb","message":"query: no such verb"})");
  expect_failure(query(), std::errc::not_supported, "no such verb");
  say(3, NBDKIT_HANDOFF_ERROR, R"({"code":"of a later version","message":"why"})");
  expect_failure(query(), std::errc::invalid_argument, "why");
}

TEST_F(HandoffClientTest, ARefusalCannotWriteOnTheTerminal) {
  say(1, NBDKIT_HANDOFF_ERROR, R"({"code":"failed","message":"a\u001b[2J\nb"})");
  expect_failure(query(), std::errc::invalid_argument, "a?[2J?b");
  say(2, NBDKIT_HANDOFF_ERROR,
      R"({"code":"failed","message":")" + std::string(60'000, 'x') + R"("})");
  Result<HandoffExport> result = query();
  ASSERT_FALSE(result.ok());
  EXPECT_LE(result.error().message().size(), 1024u);
}

TEST_F(HandoffClientTest, EventsAreLeftAlone) {
  say(0, NBDKIT_HANDOFF_EVENT, "{}");
  say(1, NBDKIT_HANDOFF_EVENT, "{}");
  answer(1, kExport);
  EXPECT_TRUE(query().ok());
}

TEST_F(HandoffClientTest, AnAnswerThatIsWrongEndsTheCallOnly) {
  answer(1, R"({"size":-4096,"transmission_flags":3,"maximum_payload":1})");
  expect_failure(query(), std::errc::protocol_error, "no valid size");
  answer(2, kExport);
  EXPECT_TRUE(query().ok());
}

TEST_F(HandoffClientTest, AServerThatTalksNonsenseIsLost) {
  ASSERT_TRUE(server.send("nonsense"));
  expect_failure(query(), std::errc::protocol_error, "no header");
  ASSERT_TRUE(lost.has_value());
  EXPECT_EQ(lost->code, std::errc::protocol_error);
  expect_failure(query(), std::errc::connection_reset, "gone");
}

TEST_F(HandoffClientTest, ARequestOfTheServersIsNonsense) {
  say(1, NBDKIT_HANDOFF_REQUEST, R"({"verb":"query"})");
  expect_failure(query(), std::errc::protocol_error, "no answer");
}

TEST_F(HandoffClientTest, ADescriptorOfTheServersIsClosedAndNonsense) {
  UniqueFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const std::size_t before = open_files();
  say(1, NBDKIT_HANDOFF_ANSWER, kExport, {null.get()});
  expect_failure(query(), std::errc::protocol_error, "uncalled for");
  EXPECT_TRUE(open_files_return_to(before));
}

TEST_F(HandoffClientTest, UnannouncedDescriptorsAreClosed) {
  UniqueFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const std::size_t before = open_files();
  HandoffPeer::Header header;
  header.kind = NBDKIT_HANDOFF_ANSWER;
  ASSERT_TRUE(server.send(header, kExport, {null.get(), null.get(), null.get()}));
  expect_failure(query(), std::errc::protocol_error, "3 descriptors came");
  EXPECT_TRUE(open_files_return_to(before));
}

TEST_F(HandoffClientTest, TheEndOfTheServerEndsEveryCall) {
  HandoffQuery request;
  std::optional<Result<HandoffExport>> first;
  finish(client->query(request),
         [&](Result<HandoffExport> result) { first.emplace(std::move(result)); });
  Task<HandoffExport> second = client->query(request);
  server.close();
  expect_failure(loop.run(std::move(second)), std::errc::connection_reset, "the server has gone");
  ASSERT_TRUE(first.has_value());
  EXPECT_FALSE(first->ok());
  ASSERT_TRUE(lost.has_value());
  EXPECT_EQ(lost->code, std::errc::connection_reset);
}

TEST_F(HandoffClientTest, CloseEndsEveryCallAndTellsNobody) {
  HandoffQuery request;
  Task<HandoffExport> call = client->query(request);
  client->close();
  expect_failure(loop.run(std::move(call)), std::errc::operation_canceled, "closed");
  EXPECT_FALSE(lost.has_value());
  EXPECT_TRUE(server.receive().body.starts_with(R"({"verb":"query")"));
  EXPECT_TRUE(server.at_end());
}

TEST_F(HandoffClientTest, ADescriptorThatIsNotOpenIsTheCallersError) {
  HandoffServe request;
  Result<HandoffServed> served = loop.run(client->serve(12345, request));
  ASSERT_FALSE(served.ok());
  EXPECT_EQ(served.error().code, std::errc::bad_file_descriptor);
}

}  // namespace
}  // namespace nbdkit
