// SPDX-License-Identifier: BSD-3-Clause
#include "handoff/message.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <random>

#include "lib/handoff/handoff_wire.h"
#include "support/handoff_peer.h"
#include "support/open_files.h"

namespace nbdkit {
namespace {

using Header = HandoffPeer::Header;

struct Parsed {
  std::uint64_t sequence = 0;
  std::size_t descriptors_left = 0;  // in the packet
  std::variant<HandoffMessage, HandoffProblem> result;

  bool ok() const { return std::holds_alternative<HandoffMessage>(result); }
  const HandoffMessage& message() const { return std::get<HandoffMessage>(result); }
  const HandoffProblem& problem() const { return std::get<HandoffProblem>(result); }
};

class MessageTest : public testing::Test {
 protected:
  Parsed take() {
    Result<HandoffPacket> packet = receive_handoff(sockets.theirs.get());
    EXPECT_TRUE(packet.ok()) << packet.error().message();
    Parsed parsed;
    if (!packet.ok()) return parsed;
    parsed.result = parse_handoff(packet.value(), parsed.sequence);
    parsed.descriptors_left = packet.value().descriptors.size();
    return parsed;
  }
  Parsed exchange(const Header& header, std::string_view body,
                  const std::vector<int>& descriptors = {}) {
    EXPECT_TRUE(peer.send(header, body, descriptors));
    return take();
  }
  void expect_problem(const Parsed& parsed, HandoffFault fault, std::string_view words) {
    ASSERT_FALSE(parsed.ok());
    EXPECT_EQ(fault_name(parsed.problem().fault), fault_name(fault));
    EXPECT_NE(parsed.problem().sentence.find(words), std::string::npos)
        << parsed.problem().sentence;
  }

  HandoffSockets sockets;
  HandoffPeer peer{std::move(sockets.ours)};
  UniqueFd null{::open("/dev/null", O_RDONLY | O_CLOEXEC)};
};

TEST_F(MessageTest, TheHeaderIsOnTheWireAsThePageSays) {
  Json body = Json::object();
  body.set("a", 1);
  ASSERT_TRUE(
      send_handoff(sockets.theirs.get(), HandoffKind::error, 0x0102030405060708, body).ok());
  std::string bytes(100, '\0');
  bytes.resize(static_cast<std::size_t>(::recv(peer.fd(), bytes.data(), bytes.size(), 0)));
  EXPECT_EQ(bytes, std::string("NBDH\0\1\0\3\0\0\0\0\0\0\0\7\1\2\3\4\5\6\7\10{\"a\":1}", 31));
}

TEST_F(MessageTest, AMessageWithADescriptorArrives) {
  Json body = Json::object();
  body.set("verb", "serve");
  ASSERT_TRUE(send_handoff(peer.fd(), HandoffKind::request, 7, body, null.get()).ok());
  Parsed parsed = take();
  ASSERT_TRUE(parsed.ok());
  EXPECT_EQ(parsed.message().kind, HandoffKind::request);
  EXPECT_EQ(parsed.message().sequence, 7u);
  EXPECT_EQ(parsed.message().body, body);
  ASSERT_TRUE(parsed.message().descriptor);
  EXPECT_NE(parsed.message().descriptor.get(), null.get());
  EXPECT_EQ(::fcntl(parsed.message().descriptor.get(), F_GETFD), FD_CLOEXEC);
  EXPECT_TRUE(null) << "the giver keeps its own";
}

TEST_F(MessageTest, TheLargestMessageArrivesAndALargerOneIsNotSent) {
  Json body = Json::object();
  body.set("t", "");
  body.set("t", std::string(NBDKIT_HANDOFF_BODY_MAX - body.dump().size(), 'x'));
  ASSERT_EQ(body.dump().size(), std::size_t{NBDKIT_HANDOFF_BODY_MAX});
  ASSERT_TRUE(send_handoff(peer.fd(), HandoffKind::request, 1, body).ok());
  EXPECT_TRUE(take().ok());
  body.set("u", 1);
  Result<void> sent = send_handoff(peer.fd(), HandoffKind::request, 1, body);
  ASSERT_FALSE(sent.ok());
  EXPECT_EQ(sent.error().code, std::errc::message_size);
}

TEST_F(MessageTest, EveryLengthBelowAHeaderIsRefused) {
  std::string whole = HandoffPeer::packet(Header{}, "{}");
  for (std::size_t length = 1; length < NBDKIT_HANDOFF_HEADER_SIZE; ++length) {
    ASSERT_TRUE(peer.send(whole.substr(0, length)));
    Parsed parsed = take();
    expect_problem(parsed, HandoffFault::bad_message, "are no header");
    EXPECT_EQ(parsed.sequence, 0u);
  }
}

TEST_F(MessageTest, AWrongHeaderIsRefused) {
  Header header;
  header.sequence = 55;
  auto with = [&](auto change) {
    Header changed = header;
    change(changed);
    return exchange(changed, "{}");
  };
  Parsed magic = with([](Header& h) { h.magic = 0x4e42444d; });
  expect_problem(magic, HandoffFault::bad_message, "magic number");
  EXPECT_EQ(magic.sequence, 0u) << "who knows what it is";
  Parsed version = with([](Header& h) { h.version = 2; });
  expect_problem(version, HandoffFault::unsupported_version, "version 2");
  EXPECT_EQ(version.sequence, 55u);
  expect_problem(with([](Header& h) { h.kind = 0; }), HandoffFault::bad_message, "kind 0");
  expect_problem(with([](Header& h) { h.kind = 5; }), HandoffFault::bad_message, "kind 5");
  expect_problem(with([](Header& h) { h.flags = 2; }), HandoffFault::bad_message, "0x2");
  expect_problem(with([](Header& h) { h.length_off_by = 1; }), HandoffFault::bad_message,
                 "announces a body of 3 bytes, 2 came");
  expect_problem(with([](Header& h) { h.length_off_by = -1; }), HandoffFault::bad_message,
                 "announces a body of 1 bytes, 2 came");
}

TEST_F(MessageTest, AMessageThatIsTooLongIsRefused) {
  Header header;
  header.sequence = 3;
  Parsed parsed = exchange(header, std::string(NBDKIT_HANDOFF_BODY_MAX + 1, ' '));
  expect_problem(parsed, HandoffFault::bad_message, "at most 65512");
  EXPECT_EQ(parsed.sequence, 3u);
}

TEST_F(MessageTest, BodiesThatAreNoObjectAreRefused) {
  std::string deep(1000, '[');
  std::string deep_objects;
  for (int i = 0; i < 40; ++i) deep_objects += "{\"a\":";
  for (const std::string& body :
       {std::string(), std::string("{"), std::string("[]"), std::string("1"), std::string("null"),
        std::string("{}x"), std::string("{\"a\":1,\"a\":2}"), std::string("{\"a\":\"\xff\"}"),
        std::string("\0{}", 3), std::string("{'a':1}"), std::string("{\"a\":1e999}"), deep,
        deep_objects, deep + std::string(1000, ']')}) {
    expect_problem(exchange(Header{}, body), HandoffFault::bad_message, "the body is");
  }
  EXPECT_TRUE(exchange(Header{}, "{}").ok()) << "and the socket is still good";
}

TEST_F(MessageTest, DescriptorsMustBeAnnouncedAndCome) {
  Header announced;
  announced.flags = NBDKIT_HANDOFF_FLAG_DESCRIPTOR;
  expect_problem(exchange(announced, "{}"), HandoffFault::no_descriptor, "none came");
  Parsed two = exchange(announced, "{}", {null.get(), null.get()});
  expect_problem(two, HandoffFault::unexpected_descriptor, "2 descriptors came, one was announced");
  EXPECT_EQ(two.descriptors_left, 2u) << "the caller closes them where that may take long";
  Parsed one = exchange(Header{}, "{}", {null.get()});
  expect_problem(one, HandoffFault::unexpected_descriptor, "1 descriptors came, none");
  EXPECT_EQ(one.descriptors_left, 1u);
  Parsed with_bad_body = exchange(announced, "[", {null.get()});
  expect_problem(with_bad_body, HandoffFault::bad_message, "the body is");
  EXPECT_EQ(with_bad_body.descriptors_left, 1u);
}

TEST_F(MessageTest, MoreDescriptorsThanThereIsRoomForAreRefusedAndNoneIsLeft) {
  Header announced;
  announced.flags = NBDKIT_HANDOFF_FLAG_DESCRIPTOR;
  const std::size_t before = open_files();
  Parsed many = exchange(announced, "{}", std::vector<int>(200, null.get()));
  expect_problem(many, HandoffFault::bad_message, "descriptors were lost");
  EXPECT_EQ(open_files(), before);
}

TEST_F(MessageTest, AProcessThatIsOutOfDescriptorsSaysSo) {
  Header announced;
  announced.flags = NBDKIT_HANDOFF_FLAG_DESCRIPTOR;
  ASSERT_TRUE(peer.send(announced, "{}", {null.get()}));
  rlimit old;
  ::getrlimit(RLIMIT_NOFILE, &old);
  rlimit none{0, old.rlim_max};
  ::setrlimit(RLIMIT_NOFILE, &none);
  Result<HandoffPacket> packet = receive_handoff(sockets.theirs.get());
  ::setrlimit(RLIMIT_NOFILE, &old);
  ASSERT_TRUE(packet.ok());
  EXPECT_TRUE(packet.value().control_truncated);
  Parsed parsed;
  parsed.result = parse_handoff(packet.value(), parsed.sequence);
  expect_problem(parsed, HandoffFault::bad_message, "too many open files");
}

TEST_F(MessageTest, AnEmptyPacketWithADescriptorIsAMessage) {
  ASSERT_TRUE(peer.send("", {null.get()}));
  Parsed parsed = take();
  expect_problem(parsed, HandoffFault::bad_message, "0 bytes are no header");
  EXPECT_EQ(parsed.descriptors_left, 1u);
}

TEST_F(MessageTest, NothingThereAndNobodyThereAreErrors) {
  Result<HandoffPacket> packet = receive_handoff(sockets.theirs.get());
  ASSERT_FALSE(packet.ok());
  EXPECT_EQ(packet.error().code, std::errc::resource_unavailable_try_again);
  peer.close();
  packet = receive_handoff(sockets.theirs.get());
  ASSERT_FALSE(packet.ok());
  EXPECT_EQ(packet.error().code, std::errc::connection_reset);
  EXPECT_FALSE(send_handoff(sockets.theirs.get(), HandoffKind::answer, 1, Json::object()).ok());
}

TEST_F(MessageTest, AFullSocketIsAnErrorAndNotAWait) {
  Json body = Json::object();
  body.set("t", std::string(30'000, 'x'));
  Result<void> sent;
  for (int i = 0; i < 1000 && sent.ok(); ++i) {
    sent = send_handoff(peer.fd(), HandoffKind::request, 1, body);
  }
  ASSERT_FALSE(sent.ok());
  EXPECT_EQ(sent.error().code, std::errc::resource_unavailable_try_again);
}

TEST_F(MessageTest, AClosedDescriptorCannotBeSent) {
  EXPECT_FALSE(send_handoff(peer.fd(), HandoffKind::request, 1, Json::object(), 12345).ok());
}

TEST_F(MessageTest, GarbageDoesNoHarmAndLeavesNothing) {
  const std::size_t before = open_files();
  std::mt19937 random(1);
  Header announced;
  announced.flags = NBDKIT_HANDOFF_FLAG_DESCRIPTOR;
  const std::string good =
      HandoffPeer::packet(announced, R"({"verb":"serve","mode":"handshake","size":12})");
  for (int round = 0; round < 5000; ++round) {
    std::string bad = good.substr(0, 1 + random() % good.size());
    for (int i = 0; i < 3; ++i) bad[random() % bad.size()] = static_cast<char>(random());
    ASSERT_TRUE(peer.send(bad, std::vector<int>(random() % 3, null.get())));
    take();
  }
  EXPECT_EQ(open_files(), before);
}

}  // namespace
}  // namespace nbdkit
