// SPDX-License-Identifier: BSD-3-Clause
// Reading, writing, holes, in every mode and with a kernel that refuses this or that.
#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "faults.h"
#include "support/stack.h"
#include "temporary.h"

namespace nbdkit {
namespace {

constexpr std::uint64_t kMiB = 1024 * 1024;

std::unique_ptr<Stack> serve(const std::string& path, std::string_view key = "cache",
                             std::string_view value = "default") {
  auto made = Stack::plugin("file", {{"file", path}, {key, value}});
  EXPECT_TRUE(made.ok()) << made.error().message();
  if (!made.ok()) return nullptr;
  std::unique_ptr<Stack> stack = std::move(made).value();
  auto opened = stack->open();
  EXPECT_TRUE(opened.ok()) << opened.error().message();
  return stack;
}

class File : public testing::Test {
 protected:
  File() { reset_faults(); }
  ~File() override { reset_faults(); }

  Temporary folder;
};

TEST_F(File, ServesAFile) {
  auto stack = serve(folder.file("disk", "hello, world"));
  const Properties& properties = stack->device().properties();
  EXPECT_EQ(properties.size, 12u);
  EXPECT_TRUE(properties.can_write && properties.can_flush && properties.can_fua);
  EXPECT_TRUE(properties.can_trim && properties.can_fast_zero && properties.can_cache);
  EXPECT_TRUE(properties.can_extents && properties.can_multi_conn);
  EXPECT_FALSE(properties.is_rotational);
  EXPECT_FALSE(properties.block_size.known());
  EXPECT_EQ(stack->read(7, 5).value(), "world");
  ASSERT_TRUE(stack->write(0, "HELLO").ok());
  ASSERT_TRUE(stack->flush().ok());
  EXPECT_EQ(folder.content("disk"), "HELLO, world");
  EXPECT_TRUE(stack->loop().run(stack->device().cache(Request(Offset{0}, 12))).ok());
  EXPECT_EQ(stack->layer().contract().survives, Survives::durable);
}

TEST_F(File, AnEmptyFileIsAnEmptyDisk) {
  EXPECT_EQ(serve(folder.file("disk", ""))->device().properties().size, 0u);
}

TEST_F(File, TheIdentityIsThatOfTheFile) {
  std::string path = folder.file("disk", "x");
  std::string one = serve(path)->device().properties().identity;
  EXPECT_EQ(serve(path)->device().properties().identity, one);
  EXPECT_NE(serve(folder.file("other", "x"))->device().properties().identity, one);
}

// What the kernel and the options may be like.
struct Weather {
  const char* name;
  const char* key;
  const char* value;
  int read_now;
  int write_now;
  int fallocate;
  int zero_range;
  std::size_t io_max;
};
constexpr std::size_t kNoLimit = std::numeric_limits<std::size_t>::max();

class FileModel : public testing::TestWithParam<Weather> {
 protected:
  FileModel() {
    reset_faults();
    faults().read_now = GetParam().read_now;
    faults().write_now = GetParam().write_now;
    faults().fallocate = GetParam().fallocate;
    faults().zero_range = GetParam().zero_range;
    faults().io_max = GetParam().io_max;
  }
  ~FileModel() override { reset_faults(); }

  Temporary folder;
};
INSTANTIATE_TEST_SUITE_P(
    , FileModel,
    testing::Values(
        Weather{"fair", "cache", "default", 0, 0, 0, 0, kNoLimit},
        Weather{"nowait_blocks", "fadvise", "random", EAGAIN, EAGAIN, 0, 0, kNoLimit},
        Weather{"nowait_unknown", "fadvise", "sequential", EOPNOTSUPP, EOPNOTSUPP, 0, 0, kNoLimit},
        Weather{"short_io", "cache", "default", 0, EOPNOTSUPP, 0, 0, 1000},
        Weather{"no_holes", "cache", "default", 0, EOPNOTSUPP, EOPNOTSUPP, 0, kNoLimit},
        Weather{"no_zero_range", "cache", "default", 0, EOPNOTSUPP, 0, EOPNOTSUPP, kNoLimit},
        Weather{"uncached", "cache", "none", 0, EOPNOTSUPP, 0, 0, kNoLimit},
        Weather{"direct", "direct", "true", 0, 0, 0, 0, kNoLimit},
        Weather{"direct_no_holes", "direct", "true", 0, 0, EOPNOTSUPP, 0, kNoLimit}),
    [](const auto& one) { return std::string(one.param.name); });

// Many random requests, and a plain string that says what is right.
TEST_P(FileModel, BehavesLikeAPlainArray) {
  constexpr std::uint64_t kSize = 300 * 1000 + 8;
  auto stack = serve(folder.sparse_file("disk", kSize), GetParam().key, GetParam().value);
  ASSERT_NE(stack, nullptr);
  std::uint64_t align = std::max(1u, stack->device().properties().block_size.minimum);
  std::string model(kSize, '\0');
  std::minstd_rand random(20240917);
  auto range = [&] {
    std::uint64_t offset = random() % kSize / align * align;
    std::uint64_t length = (random() % 70'000 / align + 1) * align;
    if (random() % 8 == 0) length = kSize;
    return std::make_pair(offset, std::min(length, kSize - offset));
  };
  for (int round = 0; round < 120; ++round) {
    auto [offset, length] = range();
    std::string data(length, static_cast<char>('a' + round % 26));
    RequestFlags fua = random() % 8 == 0 ? RequestFlags::fua : RequestFlags::none;
    switch (random() % 6) {
      case 0:
        ASSERT_TRUE(stack->zero(offset, length, RequestFlags::may_trim | fua).ok());
        data.assign(length, '\0');
        break;
      case 1:
        ASSERT_TRUE(stack->zero(offset, length, fua).ok());
        data.assign(length, '\0');
        break;
      case 2:
        ASSERT_TRUE(stack->trim(offset, length, fua).ok());
        data = stack->read(offset, length).value();  // Whatever it is now, it has to stay.
        break;
      default:
        ASSERT_TRUE(stack->write(offset, data, fua).ok());
    }
    model.replace(offset, length, data);
    auto [from, count] = range();
    ASSERT_TRUE(stack->read(from, count).value() == model.substr(from, count)) << round;
    auto extents = stack->extents(from, count).value();
    ASSERT_GE(extents.back().offset + extents.back().length, from + count);
    for (const Extent& extent : extents) {
      if (extent.type == ExtentType::data) continue;
      std::string part = model.substr(extent.offset, extent.length);
      ASSERT_EQ(part.find_first_not_of('\0'), std::string::npos) << round;
    }
  }
  ASSERT_TRUE(stack->flush().ok());
  EXPECT_TRUE(folder.content("disk") == model);
}

TEST_P(FileModel, SeveralThreadsDoNotDisturbEachOther) {
  constexpr std::uint64_t kPiece = 4096;
  constexpr std::uint64_t kThreads = 4;
  auto stack = serve(folder.sparse_file("disk", 40 * kPiece * kThreads + 1), GetParam().key,
                     GetParam().value);
  ASSERT_NE(stack, nullptr);
  auto client = [&](std::uint64_t number) {
    OtherConnection self(*stack);
    for (std::uint64_t round = 0; round < 40; ++round) {
      std::uint64_t offset = (round * kThreads + number) * kPiece;
      std::string mine(kPiece, static_cast<char>('A' + number));
      RequestFlags fua = round % 3 == 0 ? RequestFlags::fua : RequestFlags::none;
      ASSERT_TRUE(self.write(offset, mine, fua).ok());
      ASSERT_EQ(self.read(offset, kPiece).value(), mine);
      if (round % 5 == 0) {
        ASSERT_TRUE(self.flush().ok());
      }
      ASSERT_TRUE(self.zero(offset, kPiece, RequestFlags::may_trim).ok());
      ASSERT_EQ(self.read(offset, kPiece).value(), std::string(kPiece, '\0'));
    }
  };
  std::vector<std::thread> threads;
  for (std::uint64_t i = 0; i < kThreads; ++i) threads.emplace_back(client, i);
  for (std::thread& thread : threads) thread.join();
}

TEST_F(File, WhatTheKernelDoesNotKnowIsTriedOnce) {
  faults().read_now = EOPNOTSUPP;
  faults().fallocate = EOPNOTSUPP;
  auto stack = serve(folder.file("disk", std::string(kMiB, 'x')));
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(stack->read(0, 1).value(), "x");
    EXPECT_TRUE(stack->trim(4096, 4096).ok());
  }
  EXPECT_LE(faults().reads_now, 1);  // None at all on tmpfs.
  EXPECT_EQ(faults().fallocates, 1);
  EXPECT_EQ(stack->read(4096, 1).value(), "x");
}

TEST_F(File, FastZeroFailsRatherThanWrite) {
  faults().fallocate = EOPNOTSUPP;
  auto stack = serve(folder.file("disk", std::string(kMiB, 'x')));
  Result<void> result = stack->zero(0, kMiB, RequestFlags::fast_zero | RequestFlags::may_trim);
  EXPECT_EQ(result.error().code, std::errc::not_supported);
  EXPECT_EQ(stack->read(0, kMiB).value(), std::string(kMiB, 'x'));
  EXPECT_TRUE(stack->zero(0, kMiB, RequestFlags::may_trim).ok());
  EXPECT_EQ(stack->read(0, kMiB).value(), std::string(kMiB, '\0'));
}

TEST_F(File, TrimAndZeroMakeHoles) {
  auto stack = serve(folder.file("disk", std::string(2 * kMiB, 'x')));
  ASSERT_TRUE(stack->trim(0, kMiB).ok());
  EXPECT_LE(folder.blocks("disk"), 2 * kMiB / 512 / 2 + 64);
  ASSERT_TRUE(stack->zero(kMiB, kMiB, RequestFlags::may_trim | RequestFlags::fast_zero).ok());
  EXPECT_LE(folder.blocks("disk"), 64u);
  EXPECT_EQ(stack->read(0, 2 * kMiB).value(), std::string(2 * kMiB, '\0'));
}

TEST_F(File, ZeroWithoutMayTrimKeepsTheSpace) {
  for (int zero_range : {0, EOPNOTSUPP}) {
    reset_faults();
    faults().zero_range = zero_range;
    auto stack = serve(folder.file("disk", std::string(kMiB, 'x')));
    ASSERT_TRUE(stack->flush().ok());
    ASSERT_TRUE(stack->zero(0, kMiB).ok());
    EXPECT_GE(folder.blocks("disk"), kMiB / 512);
    EXPECT_EQ(stack->read(0, kMiB).value(), std::string(kMiB, '\0'));
  }
}

TEST_F(File, ZeroNeverMakesTheFileLarger) {
  auto stack = serve(folder.file("disk", std::string(1000, 'x')));
  ASSERT_TRUE(stack->zero(500, 500).ok());
  ASSERT_TRUE(stack->zero(900, 100, RequestFlags::may_trim).ok());
  EXPECT_EQ(folder.content("disk"), std::string(500, 'x') + std::string(500, '\0'));
}

TEST_F(File, ExtentsAreThoseOfTheFile) {
  auto stack = serve(folder.sparse_file("disk", 4 * kMiB));
  ASSERT_TRUE(stack->write(kMiB, std::string(kMiB, 'x')).ok());
  auto extents = stack->extents(0, 4 * kMiB).value();
  ASSERT_EQ(extents.size(), 3u);
  EXPECT_EQ(extents[0].type, ExtentType::hole_and_zero);
  EXPECT_EQ(extents[1].type, ExtentType::data);
  EXPECT_EQ(extents[1].offset, kMiB);
  EXPECT_EQ(extents[1].length, kMiB);
  EXPECT_EQ(extents[2].type, ExtentType::hole_and_zero);
  EXPECT_EQ(extents[2].offset + extents[2].length, 4 * kMiB);
  auto one = stack->extents(kMiB + 5, 2 * kMiB, RequestFlags::one).value();
  ASSERT_EQ(one.size(), 1u);
  EXPECT_EQ(one[0].offset, kMiB + 5);
  EXPECT_EQ(one[0].length, kMiB - 5);
  EXPECT_EQ(stack->extents(0, 1, RequestFlags::one).value().size(), 1u);
}

TEST_F(File, AFileThatBecomesShorterIsAnErrorAndNoZeroes) {
  std::string path = folder.file("disk", std::string(8192, 'x'));
  auto stack = serve(path);
  ASSERT_EQ(::truncate(path.c_str(), 5000), 0);
  EXPECT_EQ(stack->read(0, 5000).value(), std::string(5000, 'x'));
  Result<std::string> read = stack->read(4096, 4096);
  ASSERT_FALSE(read.ok());
  EXPECT_EQ(read.error().code, std::errc::io_error);
  EXPECT_EQ(read.error().message(), path + ": read at 5000: the file has become shorter");
}

TEST_F(File, AFileThatGrowsIsLargerForTheNextConnection) {
  std::string path = folder.file("disk", std::string(4096, 'x'));
  auto stack = serve(path);
  ASSERT_EQ(::truncate(path.c_str(), 8192), 0);
  EXPECT_EQ(stack->device().properties().size, 4096u);
  ASSERT_TRUE(stack->open().ok());
  EXPECT_EQ(stack->device().properties().size, 8192u);
  EXPECT_EQ(stack->read(4096, 1).value(), std::string(1, '\0'));
}

TEST_F(File, AFullDiskIsTold) {
  faults().write_now = EAGAIN;
  faults().plain_write = ENOSPC;
  std::string path = folder.file("disk", std::string(4096, 'x'));
  Result<void> result = serve(path)->write(0, "y");
  EXPECT_EQ(result.error().code, std::errc::no_space_on_device);
  EXPECT_EQ(result.error().message(), path + ": write: No space left on device");
}

TEST_F(File, AdviceIsPassedOn) {
  std::string path = folder.file("disk", "x");
  (void)serve(path, "fadvise", "random");
  EXPECT_EQ(faults().advice, POSIX_FADV_RANDOM);
  (void)serve(path, "fadvise", "sequential");
  EXPECT_EQ(faults().advice, POSIX_FADV_SEQUENTIAL);
  reset_faults();
  (void)serve(path, "fadvise", "normal");
  EXPECT_EQ(faults().advice, -1);
}

TEST_F(File, CacheNoneDropsWhatWasReadAndWritten) {
  auto stack = serve(folder.file("disk", std::string(16 * 4096, 'x')), "cache", "none");
  EXPECT_FALSE(stack->device().properties().can_cache);
  EXPECT_TRUE(stack->read(0, 4096).ok());
  EXPECT_EQ(faults().dropped, 1);
  for (std::uint64_t i = 0; i < 10; ++i) {
    ASSERT_TRUE(stack->write(i * 4096, std::string(4096, 'y')).ok());
  }
  EXPECT_EQ(faults().dropped, 3);  // All but the last eight.
  ASSERT_TRUE(stack->flush().ok());
  EXPECT_EQ(faults().dropped, 11);
}

}  // namespace
}  // namespace nbdkit
