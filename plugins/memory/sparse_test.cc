// SPDX-License-Identifier: BSD-3-Clause
// What sparse disks promise: size, holes, lent memory, many threads at once, kept memory.
#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <atomic>
#include <barrier>
#include <thread>

#include "support/stack.h"

namespace nbdkit {
namespace {

constexpr std::uint64_t kMiB = 1024 * 1024;
constexpr std::uint64_t kLargest = 9223372036854775807u;

std::unique_ptr<Stack> memory(std::string_view size, std::string_view allocator = "sparse",
                              UniqueFd kept = UniqueFd()) {
  auto made = Stack::plugin("memory", {{"size", size}, {"allocator", allocator}}, std::move(kept));
  EXPECT_TRUE(made.ok()) << made.error().message();
  if (!made.ok()) return nullptr;
  std::unique_ptr<Stack> stack = std::move(made).value();
  auto opened = stack->open();
  EXPECT_TRUE(opened.ok()) << opened.error().message();
  return stack;
}

std::vector<std::pair<std::uint64_t, std::uint64_t>> data_extents(Stack& stack) {
  std::vector<std::pair<std::uint64_t, std::uint64_t>> data;
  auto extents = stack.extents(0, stack.device().properties().size).value();
  for (const Extent& extent : extents) {
    if (extent.type == ExtentType::data) data.emplace_back(extent.offset, extent.length);
  }
  return data;
}

class SparseDisk : public testing::TestWithParam<const char*> {
 protected:
  std::uint64_t chunk() const { return std::string_view(GetParam()) == "zstd" ? 32768 : 4096; }
};
INSTANTIATE_TEST_SUITE_P(, SparseDisk, testing::Values("sparse", "zstd"),
                         [](const auto& one) { return std::string(one.param); });

TEST_P(SparseDisk, TheLargestDiskCanBeUsedEverywhere) {
  auto stack = memory(std::to_string(kLargest), GetParam());
  ASSERT_EQ(stack->device().properties().size, kLargest);
  // Across a part, across 64 TiB, in the middle, at the very end.
  const std::uint64_t places[] = {256 * kMiB - 3, (std::uint64_t{1} << 46) - 3,
                                  (std::uint64_t{1} << 62) + 1, kLargest - 6};
  for (std::uint64_t place : places) ASSERT_TRUE(stack->write(place, "across").ok()) << place;
  for (std::uint64_t place : places) EXPECT_EQ(stack->read(place, 6).value(), "across") << place;
  std::string zeroes(5, '\0');
  EXPECT_EQ(stack->read(256 * kMiB - 8, 16).value(), zeroes + "across" + zeroes);
  auto data = data_extents(*stack);
  ASSERT_EQ(data.size(), 4u);
  EXPECT_EQ(data[0], std::make_pair(256 * kMiB - chunk(), 2 * chunk()));
  EXPECT_EQ(data[3].first + data[3].second, kLargest);
  ASSERT_TRUE(stack->zero(0, kLargest, RequestFlags::may_trim).ok());
  EXPECT_TRUE(data_extents(*stack).empty());
  for (std::uint64_t place : places) {
    EXPECT_EQ(stack->read(place, 6).value(), std::string(6, '\0')) << place;
  }
}

TEST_P(SparseDisk, OnlyWhatIsWrittenIsData) {
  auto stack = memory("1G", GetParam());
  ASSERT_TRUE(stack->write(100 * kMiB + 5, "x").ok());
  auto extents = stack->extents(100 * kMiB, 1).value();
  ASSERT_EQ(data_extents(*stack).size(), 1u);
  EXPECT_EQ(data_extents(*stack)[0], std::make_pair(100 * kMiB, chunk()));
  EXPECT_EQ(extents[0].type, ExtentType::data);
}

TEST_P(SparseDisk, OneExtentIsEnoughWhenAskedForOne) {
  auto stack = memory("1G", GetParam());
  for (std::uint64_t i = 0; i < 10; ++i) ASSERT_TRUE(stack->write(2 * i * chunk(), "x").ok());
  auto extents = stack->extents(chunk() + 7, 1 << 30, RequestFlags::one).value();
  EXPECT_LE(extents.size(), 2u);
  EXPECT_EQ(extents[0].offset, chunk() + 7);
  EXPECT_EQ(extents[0].length, chunk() - 7);
  EXPECT_EQ(extents[0].type, ExtentType::hole_and_zero);
}

TEST_P(SparseDisk, ZeroWithoutMayTrimDoesNotFillHoles) {
  auto stack = memory("9223372036854775807", GetParam());
  ASSERT_TRUE(stack->write(chunk(), "x").ok());
  ASSERT_TRUE(stack->zero(0, kLargest).ok());
  ASSERT_EQ(data_extents(*stack).size(), 1u);
  EXPECT_EQ(data_extents(*stack)[0], std::make_pair(chunk(), chunk()));
}

// Every chunk is shared by four clients, each of which owns a quarter.
TEST_P(SparseDisk, ManyClientsDoNotDisturbEachOther) {
  auto stack = memory("512M", GetParam());
  constexpr std::uint64_t kQuarter = 1024;
  auto client = [&](std::uint64_t number) {
    OtherConnection self(*stack);
    for (int round = 0; round < 100; ++round) {
      // Some rounds are in new parts of the disk, which all make at the same time.
      std::uint64_t offset = 4096 * (round % 50) + (round % 2) * 256 * kMiB + number * kQuarter;
      std::string mine(kQuarter, static_cast<char>('A' + number + round % 20));
      ASSERT_TRUE(self.write(offset, mine).ok());
      ASSERT_EQ(self.read(offset, kQuarter).value(), mine);
      ASSERT_TRUE(self.zero(offset, kQuarter, RequestFlags::may_trim).ok());
      ASSERT_EQ(self.read(offset, kQuarter).value(), std::string(kQuarter, '\0'));
      ASSERT_TRUE(self.write(offset, mine).ok());
      ASSERT_EQ(self.read(offset, kQuarter).value(), mine);
    }
  };
  std::vector<std::thread> threads;
  for (std::uint64_t i = 0; i < 4; ++i) threads.emplace_back(client, i);
  for (std::thread& thread : threads) thread.join();
}

// Writes and a zero of the same chunks at the same time: either may win, and parts of both, but
// what was read once both had ended must not change when another byte of the chunk is written.
TEST_P(SparseDisk, NothingComesBackAfterAWriteMetAZero) {
  auto stack = memory("16M", GetParam());
  const int kRounds = chunk() == 4096 ? 200 : 30;
  constexpr std::uint64_t kChunks = 24;
  constexpr std::uint64_t kLength = 3000;
  std::barrier together(2);
  std::atomic<bool> writing;
  std::thread zeroer([&] {
    OtherConnection self(*stack);
    for (int round = 0; round < kRounds; ++round) {
      together.arrive_and_wait();
      do EXPECT_TRUE(self.zero(0, kChunks * chunk(), RequestFlags::may_trim).ok());
      while (writing);
      together.arrive_and_wait();
    }
  });
  OtherConnection self(*stack);
  auto write_all = [&](char byte) {
    for (std::uint64_t i = 0; i < kChunks; ++i) {
      EXPECT_TRUE(self.write(i * chunk(), std::string(kLength, byte)).ok());
    }
  };
  for (int round = 0; round < kRounds; ++round) {
    write_all('o');
    writing = true;
    together.arrive_and_wait();
    for (int i = 0; i < 5; ++i) write_all('n');
    writing = false;
    together.arrive_and_wait();
    for (std::uint64_t i = 0; i < kChunks; ++i) {
      std::string seen = self.read(i * chunk(), kLength).value();
      EXPECT_TRUE(self.write(i * chunk() + kLength, "x").ok());
      EXPECT_EQ(self.read(i * chunk(), kLength).value(), seen);
      EXPECT_EQ(seen.find('o'), std::string::npos);
    }
  }
  zeroer.join();
}

struct Lent {
  explicit Lent(Stack& stack) : reply(stack.loop().buffers(), 1) {}
  Reply reply;
};

TEST(Sparse, ReadsLendTheMemoryAndHolesNeedNone) {
  auto stack = memory("1M");
  ASSERT_TRUE(stack->write(8192, std::string(8192, 'x')).ok());
  Lent one(*stack);
  Lent two(*stack);
  ASSERT_TRUE(stack->loop().run(stack->device().pread(Request(Offset{0}, 65536), one.reply)).ok());
  ASSERT_TRUE(stack->loop().run(stack->device().pread(Request(Offset{0}, 65536), two.reply)).ok());
  auto pieces = one.reply.pieces();
  ASSERT_EQ(pieces.size(), 3u);
  EXPECT_EQ(pieces[0].data, nullptr);
  EXPECT_EQ(pieces[1].length, 8192u);
  EXPECT_EQ(pieces[2].data, nullptr);
  EXPECT_EQ(pieces[1].data, two.reply.pieces()[1].data);
}

TEST(Sparse, TrimGivesMemoryBackAndWhatWasLentStaysReadable) {
  auto stack = memory("1M");
  ASSERT_TRUE(stack->write(0, std::string(65536, 'x')).ok());
  Lent lent(*stack);
  ASSERT_TRUE(stack->loop().run(stack->device().pread(Request(Offset{0}, 65536), lent.reply)).ok());
  ASSERT_TRUE(stack->trim(0, 65536).ok());
  auto* memory = const_cast<std::byte*>(lent.reply.pieces()[0].data);
  unsigned char resident[16];
  ASSERT_EQ(::mincore(memory, 65536, resident), 0);
  for (unsigned char page : resident) EXPECT_EQ(page & 1, 0);
  EXPECT_EQ(lent.reply.mutable_bytes().value()[65535], std::byte{0});
}

class Kept : public testing::Test {
 protected:
  UniqueFd again() { return memfd_.duplicate().value(); }
  std::uint64_t blocks() {
    struct stat status {};
    ::fstat(memfd_.get(), &status);
    return static_cast<std::uint64_t>(status.st_blocks);
  }

  UniqueFd memfd_{::memfd_create("kept", MFD_CLOEXEC | MFD_ALLOW_SEALING)};
};

TEST_F(Kept, TheDiskSurvivesTheServer) {
  std::string identity;
  {
    auto stack = memory("3000001", "sparse", again());
    EXPECT_EQ(stack->layer().contract().survives, Survives::durable);
    identity = stack->device().properties().identity;
    ASSERT_TRUE(stack->write(2'999'995, "theend").ok());
    ASSERT_TRUE(stack->write(kMiB, "across").ok());
    ASSERT_TRUE(stack->write(kMiB + 2, "again").ok());
    ASSERT_TRUE(stack->write(0, "gone").ok());
    ASSERT_TRUE(stack->trim(0, 4096).ok());
  }
  auto stack = memory("3000001", "sparse", again());
  EXPECT_EQ(stack->device().properties().identity, identity);
  EXPECT_EQ(stack->read(2'999'995, 6).value(), "theend");
  EXPECT_EQ(stack->read(kMiB, 7).value(), "acagain");
  EXPECT_EQ(stack->read(0, 4).value(), std::string(4, '\0'));
  auto data = data_extents(*stack);
  ASSERT_EQ(data.size(), 2u);
  EXPECT_EQ(data[0], std::make_pair(kMiB, std::uint64_t{4096}));
}

TEST_F(Kept, DataIsFoundInEveryPartOfAHugeDisk) {
  auto size = std::to_string(std::uint64_t{1} << 62);
  const std::uint64_t places[] = {0, 256 * kMiB - 3, std::uint64_t{1} << 50,
                                  (std::uint64_t{1} << 62) - 6};
  {
    auto stack = memory(size, "sparse", again());
    for (std::uint64_t place : places) ASSERT_TRUE(stack->write(place, "across").ok());
  }
  auto stack = memory(size, "sparse", again());
  for (std::uint64_t place : places) EXPECT_EQ(stack->read(place, 6).value(), "across") << place;
  EXPECT_EQ(data_extents(*stack).size(), 4u);
}

// In an upgrade the new server gets ready while the old one still writes.
TEST_F(Kept, WhatWasWrittenBeforeTheFirstOpenIsSeen) {
  auto old_one = memory("1M", "sparse", again());
  auto made = Stack::plugin("memory", {{"size", "1M"}}, again());
  ASSERT_TRUE(old_one->write(5000, "late").ok());
  ASSERT_TRUE(made.value()->open().ok());
  EXPECT_EQ(made.value()->read(5000, 4).value(), "late");
}

TEST_F(Kept, TrimAndZeroGiveMemoryBack) {
  auto stack = memory("8M", "sparse", again());
  ASSERT_TRUE(stack->write(0, std::string(8 * kMiB, 'x')).ok());
  std::uint64_t full = blocks();
  ASSERT_TRUE(stack->trim(0, 4 * kMiB).ok());
  EXPECT_LE(blocks(), full / 2 + 8);
  ASSERT_TRUE(stack->zero(4 * kMiB, 4 * kMiB, RequestFlags::may_trim).ok());
  EXPECT_EQ(blocks(), 0u);
  EXPECT_EQ(stack->read(0, 8 * kMiB).value(), std::string(8 * kMiB, '\0'));
  EXPECT_EQ(blocks(), 0u);
}

TEST_F(Kept, ADiskMayBeOfAnotherSizeAgain) {
  ASSERT_TRUE(memory("1M", "sparse", again())->write(kMiB - 4, "last").ok());
  {
    auto larger = memory("2M", "sparse", again());
    EXPECT_EQ(larger->read(kMiB - 4, 8).value(), std::string("last\0\0\0\0", 8));
    ASSERT_TRUE(larger->write(2 * kMiB - 4, "end.").ok());
  }
  EXPECT_EQ(memory("1M", "sparse", again())->read(kMiB - 4, 4).value(), "last");
  EXPECT_EQ(memory("2M", "sparse", again())->read(2 * kMiB - 4, 4).value(), "end.");
}

TEST_F(Kept, MoreThanCanBeMappedIsRefused) {
  auto made = Stack::plugin("memory", {{"size", "9223372036854775807"}}, again());
  ASSERT_FALSE(made.ok());
  EXPECT_NE(made.error().message().find("can have at most"), std::string::npos);
}

// Sealed memory stands for memory that has run out.
TEST_F(Kept, NoRoomIsAnErrorAndNoSignal) {
  auto stack = memory("1G", "sparse", again());
  ASSERT_TRUE(stack->write(0, "x").ok());
  ASSERT_EQ(::fcntl(memfd_.get(), F_ADD_SEALS, F_SEAL_FUTURE_WRITE), 0);
  EXPECT_TRUE(stack->write(0, "y").ok());  // Has its memory already.
  EXPECT_EQ(stack->write(4096, "x").error().code, std::errc::no_space_on_device);
  EXPECT_EQ(stack->write(512 * kMiB, "x").error().code, std::errc::no_space_on_device);
  EXPECT_EQ(stack->read(4096, 1).value(), std::string(1, '\0'));
}

TEST_F(Kept, OtherAllocatorsDoNotUseIt) {
  auto stack = memory("1M", "zstd", again());
  EXPECT_EQ(stack->layer().contract().survives, Survives::nothing);
  ASSERT_TRUE(stack->write(0, "x").ok());
  EXPECT_EQ(blocks(), 0u);
}

}  // namespace
}  // namespace nbdkit
