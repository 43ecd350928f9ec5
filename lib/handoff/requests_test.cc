// SPDX-License-Identifier: BSD-3-Clause
// Every verb: what is sent, byte by byte, and what becomes of the answer.
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "fixture_test.h"

namespace nbdkit {
namespace {

class RequestsTest : public HandoffLibraryTest {
 protected:
  RequestsTest() {
    std::array<int, 2> ends;
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
    ours.reset(ends[0]);
    given.reset(ends[1]);
  }
  void expect_request(std::string_view body, std::uint32_t flags = 0, std::uint64_t sequence = 1) {
    HandoffPeer::Message request = peer->receive();
    EXPECT_EQ(request.kind, 1);
    EXPECT_EQ(request.flags, flags);
    EXPECT_EQ(request.sequence, sequence);
    EXPECT_EQ(request.body, body);
  }
  Served serve(const nbdkit_handoff_serve_options* options) {
    return Served(nbdkit_handoff_serve(handle.get(), given.get(), options, -1));
  }
  std::string export_with_id() {
    return R"({"id":18446744073709551615,)" + std::string(kExportBody.substr(1));
  }

  UniqueFd ours, given;
};

TEST_F(RequestsTest, QueryTellsWhatTheExportIs) {
  say(kAnswer, 1, kExportBody);
  Export info(nbdkit_handoff_query(handle.get(), "d\xc3\xad\"sk", NBDKIT_HANDOFF_PEER_KERNEL, -1));
  ASSERT_NE(info, nullptr) << nbdkit_handoff_error();
  expect_request("{\"verb\":\"query\",\"export\":\"d\xc3\xad\\\"sk\",\"peer\":\"kernel\"}");
  EXPECT_EQ(info->size, 1u << 20);
  EXPECT_EQ(info->transmission_flags, 365);
  EXPECT_EQ(info->block_size_minimum, 1u);
  EXPECT_EQ(info->block_size_preferred, 4096u);
  EXPECT_EQ(info->block_size_maximum, UINT32_MAX);
  EXPECT_EQ(info->maximum_payload, 64u << 20);
  EXPECT_TRUE(info->multi_conn && !info->shared_open && info->swap_fit);
  EXPECT_EQ(info->survives, NBDKIT_HANDOFF_SURVIVES_FLUSHED);
  EXPECT_STREQ(info->identity, "disk-7");
  EXPECT_STREQ(info->description, "a d\xc3\xadsk");
}

TEST_F(RequestsTest, TheDefaultExportIsNotNamed) {
  say(kAnswer, 1, kExportBody);
  EXPECT_NE(query(), nullptr);
  expect_request(R"({"verb":"query"})");
}

TEST_F(RequestsTest, ServeGivesTheSocketAndAllThatIsExpected) {
  say(kAnswer, 1, export_with_id());
  nbdkit_handoff_serve_options options = NBDKIT_HANDOFF_SERVE_INIT;
  options.export_name = "a";
  options.peer = NBDKIT_HANDOFF_PEER_KERNEL;
  options.expect_size = options.expect_flags = options.insecure = true;
  options.size = 1 << 20;
  options.flags = 365;
  options.state = R"({"unread":""})";
  Served served = serve(&options);
  ASSERT_NE(served, nullptr) << nbdkit_handoff_error();
  EXPECT_EQ(served->id, UINT64_MAX);
  ASSERT_NE(served->info, nullptr);
  EXPECT_EQ(served->info->size, 1u << 20);
  expect_request(R"({"verb":"serve","mode":"transmission","export":"a","peer":"kernel",)"
                 R"("size":1048576,"flags":365,"state":{"unread":""},"insecure":true})",
                 1);
}

// What the server gets is the other end of ours, and ours goes on without it.
TEST_F(RequestsTest, TheServerGetsTheSocketItself) {
  say(kAnswer, 1, export_with_id());
  ASSERT_NE(serve(nullptr), nullptr) << nbdkit_handoff_error();
  std::array<char, 200> bytes;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(sizeof(int))> control;
  iovec piece{bytes.data(), bytes.size()};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ASSERT_GT(::recvmsg(peer->fd(), &message, 0), 0);
  ASSERT_NE(CMSG_FIRSTHDR(&message), nullptr);
  int fd;
  std::memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof fd);
  UniqueFd got(fd);
  EXPECT_EQ(::send(got.get(), "x", 1, 0), 1);
  char byte = 0;
  EXPECT_EQ(::recv(ours.get(), &byte, 1, 0), 1);
  EXPECT_GE(::fcntl(given.get(), F_GETFD), 0);
}

TEST_F(RequestsTest, AHandshakeHasNoExportYet) {
  say(kAnswer, 1, R"({"id":3})");
  nbdkit_handoff_serve_options options = NBDKIT_HANDOFF_SERVE_INIT;
  options.mode = NBDKIT_HANDOFF_MODE_HANDSHAKE;
  Served served = serve(&options);
  ASSERT_NE(served, nullptr) << nbdkit_handoff_error();
  EXPECT_EQ(served->id, 3u);
  EXPECT_EQ(served->info, nullptr);
  expect_request(R"({"verb":"serve","mode":"handshake"})", 1);
}

TEST_F(RequestsTest, ListTellsOneAfterTheOther) {
  say(kAnswer, 1,
      R"({"connections":[{"id":4,"user":1000,"mode":"transmission","phase":"ending","export":"a",)"
      R"("peer":"kernel"},{"id":9,"user":null,"mode":"handshake","phase":"handshake","export":"",)"
      R"("peer":"client","later":[]}],"more":true})");
  Connections list(nbdkit_handoff_list(handle.get(), 3, -1));
  ASSERT_NE(list, nullptr) << nbdkit_handoff_error();
  expect_request(R"({"verb":"list","after":3})");
  ASSERT_EQ(list->count, 2u);
  EXPECT_TRUE(list->more);
  const nbdkit_handoff_connection& first = *list->items[0];
  EXPECT_EQ(first.id, 4u);
  EXPECT_TRUE(first.has_user);
  EXPECT_EQ(first.user, 1000u);
  EXPECT_EQ(first.mode, NBDKIT_HANDOFF_MODE_TRANSMISSION);
  EXPECT_EQ(first.phase, NBDKIT_HANDOFF_PHASE_ENDING);
  EXPECT_EQ(first.peer, NBDKIT_HANDOFF_PEER_KERNEL);
  EXPECT_STREQ(first.export_name, "a");
  EXPECT_FALSE(list->items[1]->has_user);
  EXPECT_EQ(list->items[1]->phase, NBDKIT_HANDOFF_PHASE_HANDSHAKE);
}

TEST_F(RequestsTest, CloseDrainsUnlessToldOtherwise) {
  say(kAnswer, 1, "{}");
  EXPECT_EQ(nbdkit_handoff_close(handle.get(), 7, true, -1), 0) << nbdkit_handoff_error();
  expect_request(R"({"verb":"close","id":7})");
  say(kAnswer, 2, "{}");
  EXPECT_EQ(nbdkit_handoff_close(handle.get(), 8, false, -1), 0);
  expect_request(R"({"verb":"close","id":8,"drain":false})", 0, 2);
}

TEST_F(RequestsTest, TakeOverGivesTheSocketBack) {
  say(kAnswer, 1, kTakenBody, given.get());
  Taken taken(nbdkit_handoff_take_over(handle.get(), 5, 40'000));
  ASSERT_NE(taken, nullptr) << nbdkit_handoff_error();
  expect_request(R"({"verb":"take-over","id":5,"limit_ms":30000})");
  EXPECT_EQ(taken->id, 5u);
  EXPECT_EQ(taken->peer, NBDKIT_HANDOFF_PEER_KERNEL);
  EXPECT_EQ(taken->size, 4096u);
  EXPECT_EQ(taken->flags, 365);
  EXPECT_STREQ(taken->export_name, "a");
  EXPECT_STREQ(
      taken->state,
      R"({"structured_replies":true,"extended_headers":false,"contexts":{"base:allocation":1}, )"
      R"("block_size":{"minimum":512,"preferred":4096,"maximum":65536},"unread":"25609513"})");
  EXPECT_EQ(taken->block_size_minimum, 512u);
  EXPECT_EQ(taken->block_size_preferred, 4096u);
  EXPECT_EQ(taken->block_size_maximum, 65536u);
  EXPECT_TRUE(taken->structured_replies);
  ASSERT_EQ(taken->context_count, 1u);
  EXPECT_STREQ(taken->contexts[0].name, "base:allocation");
  EXPECT_EQ(taken->contexts[0].id, 1u);
  ASSERT_EQ(taken->unread_length, 4u);
  EXPECT_EQ(std::memcmp(taken->unread, "\x25\x60\x95\x13", 4), 0);

  ASSERT_GE(taken->socket, 0);
  EXPECT_NE(::fcntl(taken->socket, F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_EQ(::send(taken->socket, "x", 1, 0), 1);
  char byte = 0;
  EXPECT_EQ(::recv(ours.get(), &byte, 1, 0), 1);
  // Freeing closes it; what has been taken out stays open.
  given.reset();
  UniqueFd kept(std::exchange(taken->socket, -1));
  taken.reset();
  EXPECT_EQ(::send(kept.get(), "x", 1, 0), 1);
}

TEST_F(RequestsTest, TheSocketOfAnAnswerThatIsFreedIsClosed) {
  std::size_t before = open_files();
  say(kAnswer, 1, kTakenBody, given.get());
  ASSERT_NE(Taken(nbdkit_handoff_take_over(handle.get(), 5, -1)), nullptr);
  EXPECT_EQ(open_files(), before);
}

// The server's time is up first, however long or short that is.
TEST_F(RequestsTest, TheServerHasLessTimeToTakeOverThanTheCall) {
  constexpr std::pair<int, std::string_view> kCases[] = {
      {-1, "22500"}, {1, "1"}, {4, "3"}, {10'000'000, "60000"}};
  std::uint64_t sequence = 0;
  for (auto [timeout_ms, limit] : kCases) {
    say(kError, ++sequence, R"({"code":"timeout","message":"too busy"})");
    EXPECT_EQ(nbdkit_handoff_take_over(handle.get(), 1, timeout_ms), nullptr);
    expect_error(NBDKIT_HANDOFF_E_TIMEOUT, "too busy");
    expect_request(R"({"verb":"take-over","id":1,"limit_ms":)" + std::string(limit) + "}", 0,
                   sequence);
  }
}

TEST_F(RequestsTest, EventsComeToWhoHasSubscribed) {
  say(kAnswer, 1, "{}");
  ASSERT_EQ(nbdkit_handoff_subscribe(handle.get(), -1), 0) << nbdkit_handoff_error();
  expect_request(R"({"verb":"subscribe"})");
  say(kEvent, 0,
      R"({"event":"began","id":2,"user":0,"mode":"transmission",)"
      R"("phase":"transmission","export":"x","peer":"client"})");
  say(kEvent, 0, R"({"event":"something-new","id":{}})");
  say(kEvent, 0, R"({"event":"ended","id":2,"reason":"moved"})");
  say(kEvent, 0, R"({"event":"missed","count":12})");
  say(kEvent, 0, R"({"event":"stopping"})");
  auto next = [this] { return Event(nbdkit_handoff_next_event(handle.get(), -1)); };
  Event event = next();
  ASSERT_NE(event, nullptr) << nbdkit_handoff_error();
  EXPECT_EQ(event->kind, NBDKIT_HANDOFF_EVENT_BEGAN);
  EXPECT_EQ(event->id, 2u);
  ASSERT_NE(event->connection, nullptr);
  EXPECT_STREQ(event->connection->export_name, "x");
  event = next();
  ASSERT_NE(event, nullptr) << nbdkit_handoff_error();
  EXPECT_EQ(event->kind, NBDKIT_HANDOFF_EVENT_ENDED);
  EXPECT_EQ(event->reason, NBDKIT_HANDOFF_REASON_MOVED);
  EXPECT_EQ(event->connection, nullptr);
  event = next();
  ASSERT_NE(event, nullptr) << nbdkit_handoff_error();
  EXPECT_EQ(event->kind, NBDKIT_HANDOFF_EVENT_MISSED);
  EXPECT_EQ(event->count, 12u);
  event = next();
  ASSERT_NE(event, nullptr) << nbdkit_handoff_error();
  EXPECT_EQ(event->kind, NBDKIT_HANDOFF_EVENT_STOPPING);
  EXPECT_EQ(nbdkit_handoff_next_event(handle.get(), 0), nullptr);
  expect_error(NBDKIT_HANDOFF_E_NO_ANSWER, "nothing happened");
}

TEST_F(RequestsTest, EventsWithoutSubscriptionAreAMistake) {
  EXPECT_EQ(nbdkit_handoff_next_event(handle.get(), -1), nullptr);
  expect_error(NBDKIT_HANDOFF_E_INVALID, "subscribed");
}

TEST_F(RequestsTest, ArgumentsThatAreWrongAreNotSent) {
  std::string long_name(4097, 'x');
  auto ask = [this](const char* name, int peer) {
    return nbdkit_handoff_query(handle.get(), name, static_cast<nbdkit_handoff_peer>(peer), -1);
  };
  EXPECT_EQ(ask(long_name.c_str(), 0), nullptr);
  expect_error(NBDKIT_HANDOFF_E_INVALID, "4096 bytes");
  EXPECT_EQ(ask("\xff", 0), nullptr);
  expect_error(NBDKIT_HANDOFF_E_INVALID, "UTF-8");
  EXPECT_EQ(ask("", 1 << 20 >> 18), nullptr);
  expect_error(NBDKIT_HANDOFF_E_INVALID, "peer 4");

  nbdkit_handoff_serve_options options = NBDKIT_HANDOFF_SERVE_INIT;
  options.struct_size = 8;
  EXPECT_EQ(serve(&options), nullptr);
  expect_error(NBDKIT_HANDOFF_E_INVALID, "NBDKIT_HANDOFF_SERVE_INIT");
  for (const char* state : {"", "[]", "{}{}", "{},\"insecure\":true,\"x\":{}", "{\"a\":1"}) {
    options = NBDKIT_HANDOFF_SERVE_INIT;
    options.state = state;
    EXPECT_EQ(serve(&options), nullptr);
    expect_error(NBDKIT_HANDOFF_E_INVALID, "state");
  }
  EXPECT_EQ(nbdkit_handoff_serve(handle.get(), 1'000'000, nullptr, -1), nullptr);
  expect_error(NBDKIT_HANDOFF_E_BAD_DESCRIPTOR, "descriptor 1000000 is not open");

  // Nothing of it has reached the server.
  say(kAnswer, 1, kExportBody);
  EXPECT_NE(query(), nullptr);
  expect_request(R"({"verb":"query"})");
}

// A program of tomorrow with a longer struct and this library.
TEST_F(RequestsTest, OptionsOfALaterVersionMustNotSayAnything) {
  struct {
    nbdkit_handoff_serve_options known = NBDKIT_HANDOFF_SERVE_INIT;
    std::uint64_t later = 0;
  } options;
  options.known.struct_size = sizeof options;
  say(kAnswer, 1, export_with_id());
  EXPECT_NE(serve(&options.known), nullptr) << nbdkit_handoff_error();
  options.later = 1;
  EXPECT_EQ(serve(&options.known), nullptr);
  expect_error(NBDKIT_HANDOFF_E_INVALID, "too old");
}

TEST_F(RequestsTest, EachCodeOfTheProtocolHasItsNumber) {
  constexpr std::pair<int, std::string_view> kCodes[] = {{1, "bad-message"},
                                                         {2, "unsupported-version"},
                                                         {3, "unknown-verb"},
                                                         {4, "unknown-key"},
                                                         {5, "bad-value"},
                                                         {6, "no-descriptor"},
                                                         {7, "unexpected-descriptor"},
                                                         {8, "bad-descriptor"},
                                                         {9, "forbidden"},
                                                         {10, "no-such-export"},
                                                         {11, "no-such-connection"},
                                                         {12, "not-movable"},
                                                         {13, "mismatch"},
                                                         {14, "limit"},
                                                         {15, "timeout"},
                                                         {16, "failed"},
                                                         {99, "invented-later"},
                                                         {99, "ok"},
                                                         {99, "no-answer"}};
  std::uint64_t sequence = 0;
  for (auto [number, name] : kCodes) {
    say(kError, ++sequence, R"({"code":")" + std::string(name) + R"(","message":"a reason"})");
    EXPECT_EQ(query(), nullptr);
    EXPECT_EQ(nbdkit_handoff_error_code(), number) << name;
    EXPECT_STREQ(nbdkit_handoff_error(), "a reason");
    if (number != 99) {
      EXPECT_EQ(nbdkit_handoff_code_name(nbdkit_handoff_error_code()), name);
    }
  }
  EXPECT_STREQ(nbdkit_handoff_code_name(NBDKIT_HANDOFF_OK), "ok");
  EXPECT_STREQ(nbdkit_handoff_code_name(NBDKIT_HANDOFF_E_NO_ANSWER), "no-answer");
  EXPECT_STREQ(nbdkit_handoff_code_name(static_cast<nbdkit_handoff_code>(77)), "unknown");
}

// It goes to terminals and logs.
TEST_F(RequestsTest, TheServersSentenceIsOneCleanLine) {
  say(kError, 1,
      R"({"code":"failed","message":"a\nb\u001b[31m\u0000\u009b\u00e9)" + std::string(3000, 'x') +
          "\"}");
  EXPECT_EQ(query(), nullptr);
  std::string_view sentence = nbdkit_handoff_error();
  EXPECT_EQ(sentence.substr(0, 13), "a?b?[31m??\xc3\xa9x");
  EXPECT_EQ(sentence.size(), 1023u);
}

}  // namespace
}  // namespace nbdkit
