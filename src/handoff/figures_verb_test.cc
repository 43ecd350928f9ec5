// SPDX-License-Identifier: BSD-3-Clause
#include "handoff/figures_verb.h"

#include <gtest/gtest.h>

#include "handoff/fixture_test.h"

namespace nbdkit {
namespace {

constexpr std::string_view kFigures = R"({"verb":"figures"})";

RequestFigures example() {
  RequestFigures figures;
  figures.add(RequestKind::read, 4096, false, Nanoseconds(10));
  figures.add(RequestKind::write, 512, true, Milliseconds(7));
  figures.add(RequestKind::extents, 512, false, Seconds(7200));
  figures.under_way = 2;
  figures.oldest = Seconds(3);
  return figures;
}

using FiguresVerbTest = HandoffControlTest;

TEST_F(FiguresVerbTest, AServerTellsWhatItWasAskedFor) {
  WireClient kernel{UniqueFd()};
  serve(R"({"verb":"serve","mode":"transmission","peer":"kernel"})", kernel);
  kernel.write(0, "hello");
  kernel.read(0, 4096);
  Json body = body_of(peer.ask(kFigures));
  const Json& reads = *body.find("requests")->find("read");
  EXPECT_EQ(reads.dump(), R"({"answered":1,"bytes":4096,"failed":0})");
  Result<RequestFigures> parsed = parse_figures(body);
  ASSERT_TRUE(parsed.ok()) << parsed.error().message();
  EXPECT_EQ(parsed.value().of(RequestKind::write).bytes, 5u);
  EXPECT_EQ(parsed.value().latency.total(), 2u);
  Json others = body_of(peer.ask(R"({"verb":"figures","peer":"client"})"));
  EXPECT_EQ(parse_figures(others).value().latency.total(), 0u);
}

TEST_F(FiguresVerbTest, WhatIsWrongIsRefused) {
  expect_error(peer.ask(R"({"verb":"figures","peer":"root"})"), "bad-value", "peer");
  expect_error(peer.ask(R"({"verb":"figures","id":1})"), "unknown-key", "id");
}

TEST_F(FiguresVerbTest, StrangersAreNotTold) {
  HandoffSockets ends;
  HandoffPeer stranger(std::move(ends.ours));
  std::unique_ptr<HandoffControl> second;
  auto make = [&] {
    second =
        std::make_unique<HandoffControl>(server.main_loop(), server.server(), server.log_sink(),
                                         terms, std::move(ends.theirs), 12345);
    return Task<void>(second->start([] {}));
  };
  ASSERT_TRUE(server.on_main_loop(make).ok());
  expect_error(stranger.ask(kFigures), "forbidden", "root");
  ASSERT_TRUE(server.on_main_loop([&] { return second->stop(); }).ok());
  auto drop = [&] {
    second.reset();
    return Task<void>(Result<void>());
  };
  ASSERT_TRUE(server.on_main_loop(drop).ok());
}

TEST(FiguresAnswerTest, FiguresComeBackAsTheyWere) {
  RequestFigures before = example();
  Result<RequestFigures> after = parse_figures(to_json(before));
  ASSERT_TRUE(after.ok()) << after.error().message();
  EXPECT_EQ(after.value().kinds, before.kinds);
  EXPECT_EQ(after.value().latency, before.latency);
  EXPECT_EQ(after.value().latency_total, before.latency_total);
  EXPECT_EQ(after.value().under_way, 2u);
  EXPECT_EQ(after.value().oldest, Nanoseconds(Seconds(3)));
}

TEST(FiguresAnswerTest, AServerIsNotBelieved) {
  const Json good = to_json(example());
  EXPECT_FALSE(parse_figures(Json::object()).ok());
  for (std::string_view key :
       {"requests", "under_way", "oldest_ns", "latency", "latency_total_ns"}) {
    Json bad = good;
    bad.set(key, "many");
    EXPECT_FALSE(parse_figures(bad).ok()) << key;
    bad.set(key, -1);
    EXPECT_FALSE(parse_figures(bad).ok()) << key;
    bad.set(key, ~std::uint64_t{0});
    EXPECT_FALSE(parse_figures(bad).ok()) << key;
  }
  for (const char* latency :
       {"[[1024,1],[1024,1]]", "[[1280,1],[1024,1]]", "[[1025,1]]", "[[0,1]]", "[[1024]]",
        "[[1024,1,1]]", "[1024,1]", "[[1024,-1]]", "[[1024,18446744073709551615]]",
        "[[18446744073709551615,1]]", "{}"}) {
    Json bad = good;
    bad.set("latency", Json::parse(latency).value());
    EXPECT_FALSE(parse_figures(bad).ok()) << latency;
  }
  Json more = good;
  more.set("news", 1);
  EXPECT_TRUE(parse_figures(more).ok()) << "what is not known is left alone";
}

}  // namespace
}  // namespace nbdkit
