// SPDX-License-Identifier: BSD-3-Clause
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <string>

#include "base/range.h"
#include "support/stack.h"

namespace nbdkit {
namespace {

std::string_view word(Operation operation) {
  switch (operation) {
    case Operation::read:
      return "read";
    case Operation::write:
      return "write";
    case Operation::flush:
      return "flush";
    case Operation::trim:
      return "trim";
    case Operation::zero:
      return "zero";
    case Operation::cache:
      return "cache";
    case Operation::extents:
      return "extents";
  }
  return "?";
}

struct BlocksizeTest : testing::Test {
  BlocksizeTest() {
    for (std::size_t i = 0; i < disk.bytes.size(); ++i) {
      disk.bytes[i] = static_cast<std::byte>('a' + i % 23);
    }
  }
  Result<void> try_open(Parameters parameters) {
    auto made = Stack::filter("blocksize", parameters, disk);
    if (!made.ok()) return std::move(made).error();
    stack = std::move(made).value();
    Result<Chain*> opened = stack->open();
    if (!opened.ok()) return std::move(opened).error();
    return {};
  }
  void open(Parameters parameters) {
    Result<void> opened = try_open(parameters);
    ASSERT_TRUE(opened.ok()) << opened.error().message();
  }
  std::string error(Parameters parameters) {
    Result<void> opened = try_open(parameters);
    return opened.ok() ? "no error" : opened.error().message();
  }
  std::string on_disk(std::size_t from, std::size_t length) const {
    return {reinterpret_cast<const char*>(disk.bytes.data()) + from, length};
  }
  // What reached the disk since the last time: "read 0+512 write 0+512! " (! is FUA).
  std::string calls() {
    std::string all;
    for (const Call& call : disk.calls) {
      all += fmt::format("{} {}+{}{} ", word(call.operation), call.request.offset,
                         call.request.length, call.request.has(RequestFlags::fua) ? "!" : "");
    }
    disk.calls.clear();
    return all;
  }
  Result<void> cache(std::uint64_t offset, std::uint64_t length) {
    return stack->loop().run(stack->device().cache(Request(Offset{offset}, length)));
  }

  ScriptedLayer disk{1 << 20};
  std::unique_ptr<Stack> stack;
};

TEST_F(BlocksizeTest, WithoutLimitsNothingIsChanged) {
  open({});
  EXPECT_EQ(stack->read(3, 5).value(), on_disk(3, 5));
  EXPECT_TRUE(stack->write(7, "xyz").ok());
  EXPECT_TRUE(stack->zero(9, 2).ok());
  EXPECT_TRUE(stack->trim(11, 1).ok());
  EXPECT_EQ(calls(), "read 3+5 write 7+3 zero 9+2 trim 11+1 ");
}

TEST_F(BlocksizeTest, TheMinimumComesFromBelow) {
  disk.properties.block_size = {4096, 65536, 1 << 20};
  open({});
  EXPECT_EQ(stack->read(100, 10).value(), on_disk(100, 10));
  EXPECT_EQ(calls(), "read 0+4096 ");
  open({{"minblock", "512"}});  // Too small for what is below.
  EXPECT_EQ(stack->read(100, 10).value(), on_disk(100, 10));
  EXPECT_EQ(calls(), "read 0+4096 ");
  open({{"minblock", "8k"}});
  EXPECT_EQ(stack->read(100, 10).value(), on_disk(100, 10));
  EXPECT_EQ(calls(), "read 0+8192 ");
}

TEST_F(BlocksizeTest, AnnouncesThatAnythingGoes) {
  open({});
  EXPECT_EQ(stack->device().properties().block_size.minimum, 1u);
  EXPECT_EQ(stack->device().properties().block_size.preferred, 4096u);
  EXPECT_EQ(stack->device().properties().block_size.maximum, 0xffffffffu);
  open({{"minblock", "64k"}});
  EXPECT_EQ(stack->device().properties().block_size.preferred, 65536u);
  disk.properties.block_size = {512, 131072, 1 << 20};
  open({});
  EXPECT_EQ(stack->device().properties().block_size.minimum, 1u);
  EXPECT_EQ(stack->device().properties().block_size.preferred, 131072u);
}

TEST_F(BlocksizeTest, TheSizeIsRoundedDownToWholeBlocks) {
  disk.properties.size = 1'000'001;
  open({{"minblock", "4k"}});
  EXPECT_EQ(stack->device().properties().size, 999424u);
}

TEST_F(BlocksizeTest, ReadsAreRoundedOutwardAndSplit) {
  open({{"minblock", "512"}, {"maxdata", "1k"}});
  EXPECT_EQ(stack->read(700, 3000).value(), on_disk(700, 3000));
  EXPECT_EQ(calls(), "read 512+1024 read 1536+1024 read 2560+1024 read 3584+512 ");
  EXPECT_EQ(stack->read(512, 1024).value(), on_disk(512, 1024));
  EXPECT_EQ(calls(), "read 512+1024 ");
}

TEST_F(BlocksizeTest, AReadThatFailsHalfWayLeavesTheReplyAsItWas) {
  open({{"minblock", "512"}, {"maxdata", "512"}});
  disk.fail(Operation::read, {std::errc{}, std::errc::io_error});
  Reply reply(stack->loop().buffers(), 1);
  reply.hole(7);
  Result<void> read = stack->loop().run(stack->device().pread(Request(Offset{0}, 2048), reply));
  ASSERT_FALSE(read.ok());
  EXPECT_EQ(read.error().code, std::errc::io_error);
  EXPECT_EQ(reply.size(), 7u);
  EXPECT_EQ(reply.pieces().size(), 1u);
}

TEST_F(BlocksizeTest, WritesChangeOnlyWhatTheyAreFor) {
  open({{"minblock", "512"}});
  std::string before = on_disk(0, 4096);
  std::string data(1500, 'X');
  ASSERT_TRUE(stack->write(700, data).ok());
  EXPECT_EQ(calls(), "read 512+512 write 512+512 write 1024+1024 read 2048+512 write 2048+512 ");
  EXPECT_EQ(on_disk(0, 4096), before.substr(0, 700) + data + before.substr(2200));
}

TEST_F(BlocksizeTest, AWriteInsideOneBlockIsOneReadAndOneWrite) {
  open({{"minblock", "512"}});
  ASSERT_TRUE(stack->write(700, "hello").ok());
  EXPECT_EQ(calls(), "read 512+512 write 512+512 ");
  EXPECT_EQ(on_disk(700, 5), "hello");
}

TEST_F(BlocksizeTest, WholeBlocksAreWrittenWithoutAReadAndSplit) {
  open({{"minblock", "512"}, {"maxdata", "1k"}});
  ASSERT_TRUE(stack->write(512, std::string(2560, 'x')).ok());
  EXPECT_EQ(calls(), "write 512+1024 write 1536+1024 write 2560+512 ");
}

TEST_F(BlocksizeTest, EveryPartOfADurableWriteIsDurable) {
  open({{"minblock", "512"}, {"maxdata", "1k"}});
  ASSERT_TRUE(stack->write(500, std::string(2000, 'x'), RequestFlags::fua).ok());
  EXPECT_EQ(calls(),
            "read 0+512 write 0+512! write 512+1024! write 1536+512! read 2048+512 write "
            "2048+512! ");
}

TEST_F(BlocksizeTest, FuaIsAnnouncedOnlyWhenItIsThereBelow) {
  disk.properties.can_fua = false;
  open({{"minblock", "512"}});
  EXPECT_FALSE(stack->device().properties().can_fua);
}

TEST_F(BlocksizeTest, AFailedReadOfABlockFailsTheWriteBeforeItWrites) {
  open({{"minblock", "512"}});
  disk.fail(Operation::read, {std::errc::io_error});
  EXPECT_FALSE(stack->write(700, "hello").ok());
  EXPECT_EQ(calls(), "read 512+512 ");
}

TEST_F(BlocksizeTest, ALockIsFreeAgainAfterAFailure) {
  open({{"minblock", "512"}});
  disk.fail(Operation::read, {std::errc::io_error});
  EXPECT_FALSE(stack->write(700, "hello").ok());
  EXPECT_TRUE(stack->write(700, "hello").ok());
}

TEST_F(BlocksizeTest, ZeroesAreDividedLikeWrites) {
  open({{"minblock", "512"}, {"maxlen", "1k"}});
  std::string before = on_disk(0, 4096);
  ASSERT_TRUE(stack->zero(500, 2000, RequestFlags::may_trim | RequestFlags::fua).ok());
  for (const Call& call : disk.calls) {
    EXPECT_EQ(call.request.has(RequestFlags::may_trim), call.operation == Operation::zero);
  }
  EXPECT_EQ(calls(),
            "read 0+512 write 0+512! zero 512+1024! zero 1536+512! read 2048+512 write 2048+512! ");
  EXPECT_EQ(on_disk(0, 4096),
            before.substr(0, 500) + std::string(2000, '\0') + before.substr(2500));
}

TEST_F(BlocksizeTest, FastZeroesOfPartsOfBlocksFailBeforeAnythingIsDone) {
  disk.properties.can_fast_zero = true;
  open({{"minblock", "512"}});
  Result<void> zero = stack->zero(512, 1000, RequestFlags::fast_zero);
  ASSERT_FALSE(zero.ok());
  EXPECT_EQ(zero.error().code, std::errc::not_supported);
  EXPECT_EQ(calls(), "");
  EXPECT_TRUE(stack->zero(512, 1024, RequestFlags::fast_zero).ok());
  EXPECT_TRUE(disk.calls[0].request.has(RequestFlags::fast_zero));
}

TEST_F(BlocksizeTest, TrimsAreCutDownToWholeBlocksAndSplit) {
  open({{"minblock", "512"}, {"maxlen", "1k"}});
  ASSERT_TRUE(stack->trim(500, 3000, RequestFlags::fua).ok());
  EXPECT_EQ(calls(), "trim 512+1024! trim 1536+1024! trim 2560+512! ");
  ASSERT_TRUE(stack->trim(500, 500).ok());  // Not one whole block.
  EXPECT_EQ(calls(), "");
}

TEST_F(BlocksizeTest, CacheRequestsAreRoundedOutwardAndSplit) {
  open({{"minblock", "512"}, {"maxlen", "1k"}});
  ASSERT_TRUE(cache(500, 2000).ok());
  EXPECT_EQ(calls(), "cache 0+1024 cache 1024+1024 cache 2048+512 ");
}

struct BlocksizeExtentsTest : BlocksizeTest {
  BlocksizeExtentsTest() {
    disk.extents = {{0, 700, ExtentType::data},
                    {700, 200, ExtentType::hole_and_zero},
                    {900, 1000, ExtentType::zero},
                    {1900, 1044, ExtentType::hole_and_zero},
                    {2944, (1 << 20) - 2944, ExtentType::data}};
  }
  // "0+512:0 ..." with the type's number last.
  std::string ask(std::uint64_t offset, std::uint64_t length,
                  RequestFlags flags = RequestFlags::none) {
    auto extents = stack->extents(offset, length, flags);
    if (!extents.ok()) return extents.error().message();
    std::string all;
    for (const Extent& extent : extents.value()) {
      all += fmt::format("{}+{}:{} ", extent.offset, extent.length,
                         static_cast<std::uint32_t>(extent.type));
    }
    return all;
  }
};

TEST_F(BlocksizeExtentsTest, ABlockHasOnlyWhatAllItsPartsPromise) {
  open({{"minblock", "512"}});
  EXPECT_EQ(ask(0, 1 << 20), "0+1024:0 1024+1024:2 2048+512:3 2560+1046016:0 ");
  EXPECT_EQ(calls(), "extents 0+1048576 ");
}

TEST_F(BlocksizeExtentsTest, QuestionsAreRoundedOutwardAndCut) {
  open({{"minblock", "512"}, {"maxlen", "1k"}});
  EXPECT_EQ(ask(1100, 5000), "1100+948:2 2048+512:3 2560+1046016:0 ");
  EXPECT_EQ(calls(), "extents 1024+1024 ");
}

TEST_F(BlocksizeExtentsTest, TheRestOfABlockOfWhichNothingIsKnownIsData) {
  open({{"minblock", "512"}});
  EXPECT_EQ(ask(1030, 10, RequestFlags::one), "1030+506:2 ");
  EXPECT_EQ(ask(2000, 10, RequestFlags::one), "2000+48:0 ");
}

// Numbers of 32 bits end there (CVE-2025-47712).
TEST_F(BlocksizeExtentsTest, ExtentsAround4GiBAreAsLongAsTheyAre) {
  constexpr std::uint64_t k4GiB = std::uint64_t{1} << 32;
  disk.properties.size = 4 * k4GiB;
  for (std::uint64_t hole : {k4GiB - 512, k4GiB, k4GiB + 512}) {
    disk.extents = {{0, hole, ExtentType::hole_and_zero},
                    {hole, 4 * k4GiB - hole, ExtentType::data}};
    for (const char* block : {"512", "64k"}) {
      open({{"minblock", block}});
      const std::uint64_t whole = block[0] == '6' ? hole / 65536 * 65536 : hole;
      EXPECT_EQ(ask(0, k4GiB - 1, RequestFlags::one), fmt::format("0+{}:3 ", whole));
      EXPECT_TRUE(ask(1, k4GiB - 1).starts_with(fmt::format("1+{}:3 ", whole - 1)));
    }
  }
}

TEST_F(BlocksizeExtentsTest, WithoutBlocksTheAnswerIsPassedOn) {
  open({});
  EXPECT_EQ(ask(701, 10, RequestFlags::one), "701+199:3 ");
}

// What the engine does with a write that is not finished when the call returns.
TEST_F(BlocksizeTest, APayloadThatMovesMeanwhileArrivesWhole) {
  open({{"minblock", "512"}, {"maxdata", "512"}});
  disk.set_delay(Milliseconds(1));
  std::string scratch;
  for (int i = 0; i < 2000; ++i) scratch += static_cast<char>('A' + i % 26);
  std::string data = scratch;
  Payload payload(std::as_bytes(std::span(scratch)), stack->loop().buffers(), 1);
  Task<void> write = stack->device().pwrite(Request(Offset{512}, data.size()), payload);
  ASSERT_FALSE(write.done());
  ASSERT_TRUE(payload.pin().ok());
  scratch.assign(scratch.size(), '#');
  ASSERT_TRUE(stack->loop().run(std::move(write)).ok());
  EXPECT_EQ(on_disk(512, data.size()), data);
}

// Two requests at the same time on two connections; both wait inside the disk.
struct BlocksizeRaceTest : BlocksizeTest {
  BlocksizeRaceTest() { disk.set_delay(Milliseconds(1)); }

  void write_both(std::uint64_t offset1, std::string data1, std::uint64_t offset2,
                  std::string data2) {
    open({{"minblock", "512"}});
    Chain& one = stack->device();
    ASSERT_TRUE(stack->open().ok());
    Chain& two = stack->device();
    BufferPool& pool = stack->loop().buffers();
    Payload payload1(std::as_bytes(std::span(data1)), pool, 1);
    Payload payload2(std::as_bytes(std::span(data2)), pool, 2);
    Task<void> first = one.pwrite(Request(Offset{offset1}, data1.size()), payload1);
    Task<void> second = two.pwrite(Request(Offset{offset2}, data2.size()), payload2);
    EXPECT_TRUE(stack->loop().run(std::move(first)).ok());
    EXPECT_TRUE(stack->loop().run(std::move(second)).ok());
  }
};

TEST_F(BlocksizeRaceTest, TwoPartsOfOneBlockAreBothKept) {
  write_both(0, "first", 100, "second");
  EXPECT_EQ(on_disk(0, 5), "first");
  EXPECT_EQ(on_disk(100, 6), "second");
}

// Without a lock the first one would write back what it read before the second one wrote.
TEST_F(BlocksizeRaceTest, AWriteOfTheWholeBlockIsNotUndone) {
  write_both(0, "first", 0, std::string(512, 'Z'));
  EXPECT_EQ(on_disk(100, 412), std::string(412, 'Z'));
}

TEST_F(BlocksizeRaceTest, WritersOfWholeBlocksDoNotWaitForEachOther) {
  write_both(0, std::string(512, 'Y'), 0, std::string(512, 'Z'));
  EXPECT_EQ(stack->loop().elapsed(), Milliseconds(1));
}

TEST_F(BlocksizeRaceTest, PartsOfDifferentBlocksDoNotWaitForEachOther) {
  write_both(0, "first", 512, "second");
  EXPECT_EQ(stack->loop().elapsed(), Milliseconds(2));  // A read and a write each.
}

// Any sequence of requests has the same effect as on a plain disk, in whole blocks below.
TEST_F(BlocksizeTest, BehavesAsAPlainDisk) {
  std::mt19937 random(42);
  auto up_to = [&](std::uint32_t n) { return random() % (n + 1); };
  for (const char* minblock : {"1", "512", "4k"}) {
    open({{"minblock", minblock}, {"maxdata", "8k"}, {"maxlen", "16k"}});
    auto block = static_cast<std::uint64_t>(parse_size(minblock).value());
    std::string model = on_disk(0, disk.bytes.size());
    for (int i = 0; i < 500; ++i) {
      std::uint32_t offset = up_to(100'000);
      std::uint32_t length = 1 + up_to(40'000);
      switch (up_to(2)) {
        case 0:
          ASSERT_EQ(stack->read(offset, length).value(), model.substr(offset, length));
          break;
        case 1: {
          std::string data(length, static_cast<char>('A' + up_to(25)));
          ASSERT_TRUE(stack->write(offset, data).ok());
          model.replace(offset, length, data);
          break;
        }
        default:
          ASSERT_TRUE(stack->zero(offset, length).ok());
          model.replace(offset, length, std::string(length, '\0'));
      }
    }
    EXPECT_TRUE(model == on_disk(0, model.size())) << minblock;
    for (const Call& call : disk.calls) {
      bool data = call.operation == Operation::read || call.operation == Operation::write;
      EXPECT_TRUE(is_aligned(call.request.offset | call.request.length, block));
      EXPECT_LE(call.request.length, data ? 8192u : 16384u);
    }
    disk.calls.clear();
  }
}

TEST_F(BlocksizeTest, BadLimitsAreRefused) {
  EXPECT_NE(error({{"minblock", "3"}}).find("minblock=3 must be a power of 2"), std::string::npos);
  EXPECT_NE(error({{"minblock", "128k"}}).find("minblock=128k"), std::string::npos);
  EXPECT_NE(error({{"minblock", "0"}}).find("minblock=0"), std::string::npos);
  EXPECT_NE(error({{"maxdata", "0"}}).find("maxdata=0"), std::string::npos);
  EXPECT_NE(error({{"maxlen", "5G"}}).find("maxlen=5G"), std::string::npos);
  EXPECT_NE(error({{"minblock", "512"}, {"maxdata", "1000"}})
                .find("maxdata=1000 must be a multiple of minblock=512"),
            std::string::npos);
  EXPECT_NE(error({{"minblock", "512"}, {"maxlen", "1000"}})
                .find("maxlen=1000 must be a multiple of minblock=512"),
            std::string::npos);
}

TEST_F(BlocksizeTest, ABlockThatDoesNotFitIntoARequestIsRefused) {
  disk.properties.block_size = {4096, 65536, 0xffffffff};
  EXPECT_NE(error({{"maxdata", "1k"}}).find("not even one block of 4096 bytes"), std::string::npos);
  EXPECT_NE(error({{"maxlen", "1k"}}).find("not even one block of 4096 bytes"), std::string::npos);
}

TEST_F(BlocksizeTest, TheLargestRequestBelowIsALimit) {
  disk.properties.block_size = {512, 4096, 2048};
  disk.properties.block_size.preferred = 2048;
  open({});
  EXPECT_EQ(stack->read(0, 4096).value(), on_disk(0, 4096));
  EXPECT_EQ(calls(), "read 0+2048 read 2048+2048 ");
}

TEST_F(BlocksizeTest, IsTransparentAndServesManyConnectionsAsOne) {
  open({});
  Contract contract = stack->layer().contract();
  EXPECT_TRUE(contract.transparent);
  EXPECT_EQ(contract.survives, Survives::durable);
  EXPECT_EQ(contract.multi_conn, MultiConn::as_below);
  EXPECT_TRUE(stack->device().properties().can_multi_conn);
}

}  // namespace
}  // namespace nbdkit
