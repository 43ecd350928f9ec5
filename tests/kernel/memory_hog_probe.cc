// SPDX-License-Identifier: BSD-3-Clause
// Wants more memory than there is: HOG_MIB of it, written and compared HOG_ROUNDS times.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>

namespace {

std::uint64_t variable(const char* name) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : 0;
}

// Different everywhere and in each round, and nothing that compresses.
std::uint64_t word_at(std::size_t place, std::uint64_t round) {
  std::uint64_t n = (place + 1) * 0x9e3779b97f4a7c15u + round * 0xbf58476d1ce4e5b9u;
  return n ^ (n >> 29);
}

TEST(MemoryHog, EveryWordComesBack) {
  const std::size_t bytes = variable("HOG_MIB") << 20;
  const std::uint64_t rounds = variable("HOG_ROUNDS");
  ASSERT_GT(bytes, 0u);
  ASSERT_GT(rounds, 0u);
  void* mapped = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ASSERT_NE(mapped, MAP_FAILED);
  auto* words = static_cast<std::uint64_t*>(mapped);
  const std::size_t count = bytes / sizeof(*words);
  std::size_t wrong = 0;
  for (std::uint64_t round = 0; round < rounds; ++round) {
    for (std::size_t i = 0; i < count; ++i) words[i] = word_at(i, round);
    for (std::size_t i = 0; i < count; ++i) wrong += words[i] != word_at(i, round) ? 1 : 0;
  }
  EXPECT_EQ(wrong, 0u);
}

}  // namespace
