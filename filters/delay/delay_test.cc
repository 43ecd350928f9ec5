// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "support/stack.h"

namespace nbdkit {
namespace {

struct DelayTest : testing::Test {
  void open(Parameters parameters) {
    auto made = Stack::filter("delay", parameters, disk);
    ASSERT_TRUE(made.ok()) << made.error().message();
    stack = std::move(made).value();
    ASSERT_TRUE(stack->open().ok());
  }
  std::string error(Parameters parameters) {
    auto made = Stack::filter("delay", parameters, disk);
    return made.ok() ? "no error" : made.error().message();
  }
  // How long each operation takes, in milliseconds of virtual time.
  std::string times() {
    std::string all;
    auto measure = [&](const char* name, auto call) {
      Nanoseconds before = stack->loop().elapsed();
      EXPECT_TRUE(call().ok()) << name;
      auto ms = std::chrono::duration_cast<Milliseconds>(stack->loop().elapsed() - before);
      if (ms.count() != 0) all += std::string(name) + "=" + std::to_string(ms.count()) + " ";
    };
    measure("read", [&] { return stack->read(0, 512); });
    measure("write", [&] { return stack->write(0, "x"); });
    measure("zero", [&] { return stack->zero(0, 512); });
    measure("trim", [&] { return stack->trim(0, 512); });
    measure("extents", [&] { return stack->extents(0, 512); });
    measure("cache", [&] { return cache(); });
    measure("flush", [&] { return stack->flush(); });
    return all;
  }
  Result<void> cache() { return stack->loop().run(stack->device().cache(Request(Offset{0}, 512))); }

  ScriptedLayer disk{1 << 20};
  std::unique_ptr<Stack> stack;
};

TEST_F(DelayTest, WithoutParametersNothingIsDelayed) {
  open({});
  EXPECT_EQ(times(), "");
}

TEST_F(DelayTest, EachKeyDelaysItsOperationOnly) {
  open({{"delay-read", "1"},
        {"delay-write", "2"},
        {"delay-zero", "3"},
        {"delay-trim", "4"},
        {"delay-extents", "5"},
        {"delay-cache", "6"}});
  EXPECT_EQ(times(), "read=1000 write=2000 zero=3000 trim=4000 extents=5000 cache=6000 ");
}

TEST_F(DelayTest, EveryKeyHasItsOtherSpelling) {
  open({{"delay-reads", "1ms"},
        {"delay-writes", "2ms"},
        {"delay-zeroes", "3ms"},
        {"delay-trims", "4ms"},
        {"delay-extent", "5ms"}});
  EXPECT_EQ(times(), "read=1 write=2 zero=3 trim=4 extents=5 ");
  open({{"delay-discard", "7ms"}});
  EXPECT_EQ(times(), "trim=7 ");
  open({{"delay-discards", "8ms"}});
  EXPECT_EQ(times(), "trim=8 ");
}

TEST_F(DelayTest, RdelayIsForReadsAndWdelayForAllThatWrites) {
  open({{"rdelay", "20ms"}, {"wdelay", "1.5s"}});
  EXPECT_EQ(times(), "read=20 write=1500 zero=1500 trim=1500 ");
}

TEST_F(DelayTest, TheLastKeyWins) {
  open({{"delay-zero", "1"}, {"wdelay", "2"}, {"delay-trim", "3"}});
  EXPECT_EQ(times(), "write=2000 zero=2000 trim=3000 ");
}

TEST_F(DelayTest, RequestsSleepAtTheSameTime) {
  open({{"rdelay", "1"}});
  Reply one(stack->loop().buffers(), 1), two(stack->loop().buffers(), 1);
  Task<void> first = stack->device().pread(Request(Offset{0}, 512), one);
  Task<void> second = stack->device().pread(Request(Offset{512}, 512), two);
  EXPECT_TRUE(stack->loop().run(std::move(first)).ok());
  EXPECT_TRUE(stack->loop().run(std::move(second)).ok());
  EXPECT_EQ(stack->loop().elapsed(), Seconds(1));
}

// What the engine does with a write that is not finished when the call returns.
TEST_F(DelayTest, APayloadThatMovesWhileTheWriteSleepsArrivesWhole) {
  open({{"wdelay", "1"}});
  std::string scratch = "precious";
  Payload payload(std::as_bytes(std::span(scratch)), stack->loop().buffers(), 1);
  Task<void> write = stack->device().pwrite(Request(Offset{0}, scratch.size()), payload);
  ASSERT_FALSE(write.done());
  ASSERT_TRUE(payload.pin().ok());
  scratch.assign(scratch.size(), '#');
  EXPECT_TRUE(stack->loop().run(std::move(write)).ok());
  EXPECT_EQ(std::memcmp(disk.bytes.data(), "precious", 8), 0);
}

TEST_F(DelayTest, OpeningAndClosingTakeTheirTime) {
  open({{"delay-open", "2"}, {"delay-close", "3"}});
  EXPECT_EQ(stack->loop().elapsed(), Seconds(2));
  EXPECT_TRUE(stack->loop().run(stack->device().close()).ok());
  EXPECT_EQ(stack->loop().elapsed(), Seconds(5));
}

TEST_F(DelayTest, FastZeroesAreDelayedAsOthersUnlessTold) {
  disk.properties.can_fast_zero = true;
  open({{"delay-zero", "1"}});
  EXPECT_TRUE(stack->zero(0, 512, RequestFlags::fast_zero).ok());
  EXPECT_EQ(stack->loop().elapsed(), Seconds(1));
}

TEST_F(DelayTest, FastZeroesFailAtOnceWhenTold) {
  open({{"delay-zero", "1"}, {"delay-fast-zero", "false"}});
  EXPECT_TRUE(stack->device().properties().can_fast_zero);  // Not below, but a no is fast.
  Result<void> zero = stack->zero(0, 512, RequestFlags::fast_zero);
  ASSERT_FALSE(zero.ok());
  EXPECT_EQ(zero.error().code, std::errc::not_supported);
  EXPECT_EQ(stack->loop().elapsed(), Seconds(0));
  EXPECT_TRUE(disk.calls.empty());
  EXPECT_TRUE(stack->zero(0, 512).ok());
  EXPECT_EQ(stack->loop().elapsed(), Seconds(1));
}

TEST_F(DelayTest, WithoutADelayOfZeroesTheLayerBelowDecidesOnFastOnes) {
  open({{"delay-fast-zero", "false"}});
  EXPECT_FALSE(stack->device().properties().can_fast_zero);
  disk.properties.can_fast_zero = true;
  open({{"delay-fast-zero", "false"}});
  EXPECT_TRUE(stack->zero(0, 512, RequestFlags::fast_zero).ok());
}

TEST_F(DelayTest, ADelayEndsWithItsConnection) {
  open({{"rdelay", "3600"}});
  Reply reply(stack->loop().buffers(), 1);
  Task<void> read = stack->device().pread(Request(Offset{0}, 512), reply);
  stack->gate().close();
  Result<void> result = stack->loop().run(std::move(read));
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, std::errc::operation_canceled);
  EXPECT_TRUE(disk.calls.empty());
}

TEST_F(DelayTest, BadValuesAreRefused) {
  EXPECT_NE(error({{"rdelay", "-1"}}).find("rdelay=-1"), std::string::npos);
  EXPECT_NE(error({{"wdelay", "1x"}}).find("wdelay=1x"), std::string::npos);
  EXPECT_NE(error({{"delay-open", ""}}).find("delay-open="), std::string::npos);
  EXPECT_NE(error({{"delay-fast-zero", "perhaps"}}).find("perhaps"), std::string::npos);
}

TEST_F(DelayTest, IsTransparentAndKeepsEveryPromise) {
  open({});
  Contract contract = stack->layer().contract();
  EXPECT_TRUE(contract.transparent);
  EXPECT_EQ(contract.survives, Survives::durable);
  EXPECT_EQ(contract.multi_conn, MultiConn::as_below);
}

}  // namespace
}  // namespace nbdkit
