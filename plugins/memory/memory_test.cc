// SPDX-License-Identifier: BSD-3-Clause
// What is true of every allocator, and the parameters.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <linux/capability.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <fstream>
#include <random>

#include "support/stack.h"

namespace nbdkit {
namespace {

std::unique_ptr<Stack> memory(std::string_view size, std::string_view allocator) {
  auto made = Stack::plugin("memory", {{"size", size}, {"allocator", allocator}});
  EXPECT_TRUE(made.ok()) << made.error().message();
  std::unique_ptr<Stack> stack = std::move(made).value();
  EXPECT_TRUE(stack->open().ok());
  return stack;
}

std::string refusal(Parameters parameters) {
  auto made = Stack::plugin("memory", parameters);
  EXPECT_FALSE(made.ok());
  return made.ok() ? "" : made.error().message();
}

class Memory : public testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(, Memory, testing::Values("sparse", "malloc", "zstd"),
                         [](const auto& one) { return std::string(one.param); });

TEST_P(Memory, AFreshDiskReadsAsZeroes) {
  auto stack = memory("1M", GetParam());
  EXPECT_EQ(stack->read(0, 1 << 20).value(), std::string(1 << 20, '\0'));
}

TEST_P(Memory, AnnouncesEverything) {
  auto stack = memory("1M", GetParam());
  const Properties& properties = stack->device().properties();
  EXPECT_EQ(properties.size, 1u << 20);
  EXPECT_TRUE(properties.can_write && properties.can_flush && properties.can_fua);
  EXPECT_TRUE(properties.can_trim && properties.can_fast_zero && properties.can_cache);
  EXPECT_TRUE(properties.can_extents && properties.can_multi_conn);
  EXPECT_FALSE(properties.is_rotational);
  EXPECT_EQ(stack->layer().contract().survives, Survives::nothing);
  EXPECT_TRUE(stack->write(0, "x", RequestFlags::fua).ok());
  EXPECT_TRUE(stack->flush().ok());
  EXPECT_TRUE(stack->loop().run(stack->device().cache(Request(Offset{0}, 4096))).ok());
}

TEST_P(Memory, AReadOnlyConnectionCannotWrite) {
  auto stack = memory("1M", GetParam());
  ASSERT_TRUE(stack->open("", true).ok());
  EXPECT_FALSE(stack->device().properties().can_write);
}

TEST_P(Memory, AllConnectionsSeeTheSameDisk) {
  auto stack = memory("1M", GetParam());
  ASSERT_TRUE(stack->write(5000, "shared").ok());
  ASSERT_TRUE(stack->open("any name").ok());
  EXPECT_EQ(stack->read(5000, 6).value(), "shared");
}

TEST_P(Memory, TwoProcessesNeverHaveTheSameIdentity) {
  auto one = memory("1M", GetParam());
  auto other = memory("1M", GetParam());
  EXPECT_NE(one->device().properties().identity, "");
  EXPECT_NE(one->device().properties().identity, other->device().properties().identity);
}

TEST_P(Memory, AnEmptyDiskCanBeOpened) {
  EXPECT_EQ(memory("0", GetParam())->device().properties().size, 0u);
}

// A disk that ends inside a chunk, many random requests, and a plain string that says what is
// right.
TEST_P(Memory, BehavesLikeAPlainArray) {
  constexpr std::uint64_t kSize = 300 * 1000 + 7;
  auto stack = memory(std::to_string(kSize), GetParam());
  std::string model(kSize, '\0');
  std::minstd_rand random(20240917);
  for (int round = 0; round < 150; ++round) {
    std::uint64_t offset = random() % kSize;
    std::uint64_t length = 1 + random() % std::min<std::uint64_t>(kSize - offset, 70'000);
    if (random() % 8 == 0) length = kSize - offset;
    std::string data(length, static_cast<char>('a' + round % 26));
    switch (random() % 5) {
      case 0:
        ASSERT_TRUE(stack->trim(offset, length).ok());
        model.replace(offset, length, length, '\0');
        break;
      case 1:
        ASSERT_TRUE(stack->zero(offset, length, RequestFlags::may_trim).ok());
        model.replace(offset, length, length, '\0');
        break;
      case 2:
        ASSERT_TRUE(stack->zero(offset, length, RequestFlags::fast_zero).ok());
        model.replace(offset, length, length, '\0');
        break;
      default:
        ASSERT_TRUE(stack->write(offset, data).ok());
        model.replace(offset, length, data);
    }
    std::uint64_t from = random() % kSize;
    std::uint64_t count = 1 + random() % (kSize - from);
    ASSERT_TRUE(stack->read(from, count).value() == model.substr(from, count)) << round;
    auto extents = stack->extents(from, count).value();
    ASSERT_GE(extents.back().offset + extents.back().length, from + count);
    for (const Extent& extent : extents) {
      if (extent.type == ExtentType::data) continue;
      std::string part = model.substr(extent.offset, extent.length);
      ASSERT_EQ(part.find_first_not_of('\0'), std::string::npos) << round;
    }
  }
  EXPECT_EQ(stack->read(0, kSize).value(), model);
}

TEST_P(Memory, WhatIsZeroedWholeIsAHoleWhereThereAreHoles) {
  auto stack = memory("1000000", GetParam());  // Ends inside a chunk.
  ASSERT_TRUE(stack->write(0, std::string(1'000'000, 'x')).ok());
  ASSERT_TRUE(stack->zero(0, 1'000'000, RequestFlags::may_trim).ok());
  auto extents = stack->extents(0, 1'000'000).value();
  ASSERT_EQ(extents.size(), 1u);
  bool holes = std::string_view(GetParam()) != "malloc";
  EXPECT_EQ(extents[0].type, holes ? ExtentType::hole_and_zero : ExtentType::data);
}

TEST_P(Memory, ZeroWithoutMayTrimMakesNoHole) {
  auto stack = memory("1M", GetParam());
  ASSERT_TRUE(stack->write(0, std::string(1 << 20, 'x')).ok());
  ASSERT_TRUE(stack->zero(0, 1 << 20).ok());
  auto extents = stack->extents(0, 1 << 20).value();
  ASSERT_EQ(extents.size(), 1u);
  EXPECT_EQ(extents[0].type, ExtentType::data);
  EXPECT_EQ(stack->read(0, 1 << 20).value(), std::string(1 << 20, '\0'));
}

TEST(MemoryParameters, SizeIsRequired) {
  EXPECT_NE(refusal({}).find("size= is missing"), std::string::npos);
  EXPECT_NE(refusal({{"allocator", "zstd"}}).find("size= is missing"), std::string::npos);
}

TEST(MemoryParameters, BadValuesAreQuoted) {
  for (std::string_view size : {"12x", "-1", "9223372036854775808", ""}) {
    EXPECT_NE(refusal({{"size", size}}).find(fmt::format("size={}: ", size)), std::string::npos);
  }
  for (std::string_view word :
       {"", "heap", "Sparse", "sparse,mlock=true", "zstd,x=1", "sparse,", "malloc,", "malloc,mlock",
        "malloc,mlock=", "malloc,mlock=maybe", "malloc,x=1", "malloc,mlock=true,mlock=true"}) {
    EXPECT_NE(
        refusal({{"size", "1M"}, {"allocator", word}}).find(fmt::format("allocator={}", word)),
        std::string::npos)
        << word;
  }
}

TEST(MemoryParameters, MallocTakesMlockEitherWay) {
  EXPECT_TRUE(memory("64K", "malloc,mlock=false") != nullptr);
  EXPECT_FALSE(memory("64K", "malloc,mlock=no")->layer().contract().swap_fit);
}

std::uint64_t locked_kib() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;) {
    if (word != "VmLck:") continue;
    std::uint64_t kib = 0;
    status >> kib;
    return kib;
  }
  return 0;
}

TEST(MemoryParameters, MlockLocksTheWholeDisk) {
  std::uint64_t before = locked_kib();
  auto stack = memory("64K", "malloc,mlock=true");
  EXPECT_GE(locked_kib(), before + 64);
  EXPECT_TRUE(stack->layer().contract().swap_fit);
}

// In a child, which gives up the right to lock.
TEST(MemoryParameters, MlockWithoutTheRightIsRefused) {
  pid_t child = ::fork();
  if (child == 0) {
    rlimit none{0, 0};
    ::setrlimit(RLIMIT_MEMLOCK, &none);
    __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
    __user_cap_data_struct nothing[2]{};
    ::syscall(SYS_capset, &header, nothing);
    std::string why = refusal({{"size", "1M"}, {"allocator", "malloc,mlock=true"}});
    ::_exit(why.find("mlock=true") != std::string::npos ? 7 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 7);
}

TEST(MemoryParameters, MallocOfMoreThanThereIsIsRefused) {
  EXPECT_NE(refusal({{"size", "9223372036854775807"}, {"allocator", "malloc"}})
                .find("not enough memory for allocator=malloc"),
            std::string::npos);
}

TEST(MemoryParameters, DumpTellsWhatIsBuiltIn) {
  auto stack = memory("1M", "sparse");
  EXPECT_NE(stack->layer().dump().find("zstd=yes"), std::string::npos);
  EXPECT_EQ(stack->layer().magic_key(), "size");
}

}  // namespace
}  // namespace nbdkit
