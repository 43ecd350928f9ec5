// SPDX-License-Identifier: BSD-3-Clause
#include "attach/performance.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include "handoff/figures_verb.h"
#include "support/handoff_peer.h"
#include "support/test_loop.h"

namespace nbdkit {
namespace {

// Kinds of messages: docs/handoff-protocol.md.
constexpr std::uint16_t kAnswer = 2;
constexpr std::uint16_t kError = 3;

RequestFigures figures(std::uint64_t reads, Nanoseconds each) {
  RequestFigures figures;
  for (std::uint64_t i = 0; i < reads; ++i) figures.add(RequestKind::read, 4096, false, each);
  return figures;
}

// A server that is played by the test, which speaks first: the sequence numbers count from 1.
struct PerformanceWatchTest : testing::Test {
  PerformanceWatchTest() {
    EXPECT_TRUE(client.start([](Error) {}).ok());
  }
  ~PerformanceWatchTest() override {
    client.close();
    EXPECT_TRUE(loop.run(gate.drained()).ok());
  }

  void say(std::uint16_t kind, std::string_view body) {
    HandoffPeer::Header header;
    header.kind = kind;
    header.sequence = ++sequence;
    EXPECT_TRUE(server.send(header, body));
  }
  void answer(const RequestFigures& told) { say(kAnswer, to_json(told).dump()); }
  Performance look(std::int64_t process = 1) {
    EXPECT_TRUE(loop.run(watch.look(&client, process)).ok());
    return watch.performance();
  }
  void sleep(Nanoseconds time) {
    Gate sleeps(loop);
    EXPECT_TRUE(loop.run(loop.sleep(time, sleeps)).ok());
  }
  // How many questions the server has not read.
  std::size_t questions() {
    std::size_t count = 0;
    char byte;
    while (::recv(server.fd(), &byte, 1, MSG_DONTWAIT) > 0) ++count;
    return count;
  }

  TestLoop loop;
  Gate gate{loop};
  HandoffSockets sockets;
  HandoffPeer server{std::move(sockets.theirs)};
  HandoffClient client{loop, std::move(sockets.ours)};
  PerformanceWatch watch{loop, gate};
  std::uint64_t sequence = 0;
};

TEST_F(PerformanceWatchTest, OneMomentHasNoRates) {
  RequestFigures now = figures(100, Milliseconds(1));
  now.under_way = 3;
  now.oldest = Seconds(2);
  answer(now);
  Performance performance = look();
  EXPECT_EQ(performance.problem, "");
  EXPECT_FALSE(performance.interval);
  EXPECT_GE(performance.p99, Nanoseconds(Milliseconds(1)));
  EXPECT_EQ(performance.under_way, 3u);
  EXPECT_EQ(performance.oldest, Nanoseconds(Seconds(2)));
}

TEST_F(PerformanceWatchTest, RatesAndLatencyAreOfTheTimeBetween) {
  RequestFigures then = figures(100, Seconds(1));
  answer(then);
  look();
  sleep(Seconds(2));
  RequestFigures now = then;
  now += figures(50, Milliseconds(1));
  now.add(RequestKind::write, 512, false, Milliseconds(1));
  now.add(RequestKind::flush, 0, false, Milliseconds(1));
  now.add(RequestKind::trim, 1 << 20, false, Milliseconds(1));
  answer(now);
  Performance performance = look();
  EXPECT_EQ(performance.interval, Nanoseconds(Seconds(2)));
  EXPECT_EQ(performance.reads, 25);
  EXPECT_EQ(performance.read_bytes, 25 * 4096);
  EXPECT_EQ(performance.writes, 0.5);
  EXPECT_EQ(performance.written_bytes, 256);
  EXPECT_EQ(performance.others, 1);
  EXPECT_LT(performance.p99, Nanoseconds(Milliseconds(2))) << "the slow ones were before";
}

TEST_F(PerformanceWatchTest, WhoAsksOftenStillGetsASecond) {
  RequestFigures now;
  for (int i = 0; i < 20; ++i) {
    now += figures(10, Milliseconds(1));
    answer(now);
    look();
    sleep(Milliseconds(100));
  }
  EXPECT_GE(watch.performance().interval, Nanoseconds(Milliseconds(900)));
  EXPECT_NEAR(watch.performance().reads, 100, 1);
}

TEST_F(PerformanceWatchTest, AServerThatDoesNotAnswerIsNotWaitedForNorAskedAgain) {
  for (int i = 0; i < 5; ++i) {
    Nanoseconds before = loop.elapsed();
    EXPECT_NE(look().problem.find("has not answered for"), std::string::npos);
    EXPECT_EQ(watch.figures(), nullptr);
    EXPECT_LE(loop.elapsed() - before, Nanoseconds(PerformanceWatch::kAnswerMax));
  }
  EXPECT_EQ(questions(), 1u);
  answer(figures(1, Milliseconds(1)));
  sleep(Milliseconds(1));
  EXPECT_EQ(watch.performance().problem, "") << "a late answer is one";
  answer(figures(2, Milliseconds(1)));
  look();
  EXPECT_EQ(watch.figures()->of(RequestKind::read).requests, 2u);
}

TEST_F(PerformanceWatchTest, AnotherServerBeginsAnew) {
  answer(figures(1000, Seconds(1)));
  look();
  sleep(Seconds(2));
  answer(figures(1, Milliseconds(1)));
  Performance performance = look(2);
  EXPECT_FALSE(performance.interval);
  EXPECT_LT(performance.p99, Nanoseconds(Milliseconds(2)));
}

TEST_F(PerformanceWatchTest, WhatIsNoAnswerIsToldOf) {
  say(kAnswer, R"({"requests":[]})");
  EXPECT_EQ(look().problem, "the server's answer has no valid read");
  say(kError, R"({"code":"unknown-verb","message":"figures: no such verb"})");
  EXPECT_EQ(look().problem, "the server is of a version that does not tell");
  EXPECT_EQ(look().problem, "the server is of a version that does not tell");
  EXPECT_EQ(questions(), 2u) << "it is not asked again";
}

TEST_F(PerformanceWatchTest, WithoutAServerNothingIsKnown) {
  EXPECT_TRUE(loop.run(watch.look(nullptr, 0)).ok());
  EXPECT_EQ(watch.performance().problem, "no server runs");
  EXPECT_EQ(watch.figures(), nullptr);
}

TEST(PerformanceTest, WhatAKeeperSaysIsReadBack) {
  Performance before;
  before.interval = Seconds(5);
  before.reads = 12.5;
  before.written_bytes = 4096;
  before.p50 = Nanoseconds(1024);
  before.p99 = Nanoseconds(1280);
  before.under_way = 7;
  before.oldest = Milliseconds(3);
  Result<Performance> after = parse_performance(to_json(before));
  ASSERT_TRUE(after.ok()) << after.error().message();
  EXPECT_EQ(to_json(after.value()), to_json(before));
  before = Performance();
  before.problem = "it sleeps";
  EXPECT_EQ(parse_performance(to_json(before)).value().problem, "it sleeps");
}

TEST(PerformanceTest, NonsenseIsNotBelieved) {
  for (const char* text : {"null", "{}", R"({"problem":1})", R"({"problem":null,"p99_us":"1"})",
                           R"({"problem":null,"p99_us":-1})", R"({"problem":null,"p99_us":1e300})",
                           R"({"problem":null,"under_way":1e30})"}) {
    EXPECT_FALSE(parse_performance(Json::parse(text).value()).ok()) << text;
  }
}

TEST(PerformanceTest, PeopleReadTimesInUnits) {
  EXPECT_EQ(describe_time(Nanoseconds(1280)), "1.28 us");
  EXPECT_EQ(describe_time(Milliseconds(13)), "13 ms");
  EXPECT_EQ(describe_time(Milliseconds(2500)), "2.5 s");
}

}  // namespace
}  // namespace nbdkit
