// SPDX-License-Identifier: BSD-3-Clause
// Writes to CHECK_NODE from CHECK_THREADS threads until there is a file CHECK_STOP, and knows what
// was answered: every block has to hold what was written to it last, at any time and at the end.
// CHECK_SEED repeats a run. Nothing is cached; some writes are followed by a flush, or have FUA.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "base/unique_fd.h"

namespace nbdkit {
namespace {

constexpr std::size_t kBlock = 4096;
constexpr std::size_t kBlocksPerThread = 128;
constexpr std::size_t kBlocksMax = 16;  // of one request

std::string variable(const char* name) {
  const char* text = std::getenv(name);
  return text != nullptr ? text : "";
}

// A block that was never written reads as zeroes. All others differ from each other and from what
// they were before, in each of their words.
std::uint64_t word_at(std::uint64_t block, std::uint64_t version, std::uint64_t word) {
  if (version == 0) return 0;
  std::uint64_t n = (block << 40 ^ version << 12 ^ word) * 0x9e3779b97f4a7c15u;
  return n ^ (n >> 29);
}

// The blocks of one thread, of which nobody else writes any.
class Writer {
 public:
  Writer(const std::string& node, std::uint64_t number, std::uint64_t seed)
      : device_(::open(node.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC)),
        first_(number * kBlocksPerThread),
        random_(seed * 1000 + number),
        memory_(static_cast<std::byte*>(std::aligned_alloc(kBlock, kBlock * kBlocksMax))) {}

  void run(const std::string& stop_file) {
    while (complaint_.empty() && ::access(stop_file.c_str(), F_OK) != 0) {
      std::size_t count = 1 + random_() % kBlocksMax;
      std::size_t begin = random_() % (kBlocksPerThread - count + 1);
      if (random_() % 4 == 0) {
        compare(begin, count);
      } else {
        write(begin, count);
      }
    }
    for (std::size_t i = 0; i < kBlocksPerThread && complaint_.empty(); ++i) compare(i, 1);
  }

  const std::string& complaint() const { return complaint_; }
  std::uint64_t answered() const { return answered_; }
  double longest_seconds() const { return longest_.count(); }

 private:
  using Clock = std::chrono::steady_clock;
  struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
  };

  // Runs what takes one request and remembers how long that was.
  template <typename Call>
  void timed(const char* what, Call call) {
    Clock::time_point begin = Clock::now();
    if (!call()) complaint_ = std::string(what) + ": " + std::strerror(errno);
    longest_ = std::max(longest_, std::chrono::duration<double>(Clock::now() - begin));
  }

  off_t offset(std::size_t block) const { return static_cast<off_t>((first_ + block) * kBlock); }

  void write(std::size_t begin, std::size_t count) {
    ++version_;
    for (std::size_t i = 0; i < count; ++i) fill(i, first_ + begin + i, version_);
    iovec piece{memory_.get(), count * kBlock};
    const int flags = random_() % 8 == 0 ? RWF_DSYNC : 0;
    timed("write", [&] {
      return ::pwritev2(device_.get(), &piece, 1, offset(begin), flags) ==
             static_cast<ssize_t>(piece.iov_len);
    });
    if (!complaint_.empty()) return;
    std::fill_n(versions_.begin() + static_cast<std::ptrdiff_t>(begin), count, version_);
    ++answered_;
    if (random_() % 16 == 0) timed("flush", [&] { return ::fdatasync(device_.get()) == 0; });
  }

  void fill(std::size_t place, std::uint64_t block, std::uint64_t version) {
    auto* words = reinterpret_cast<std::uint64_t*>(memory_.get() + place * kBlock);
    for (std::size_t i = 0; i < kBlock / sizeof *words; ++i) words[i] = word_at(block, version, i);
  }

  void compare(std::size_t begin, std::size_t count) {
    timed("read", [&] {
      return ::pread(device_.get(), memory_.get(), count * kBlock, offset(begin)) ==
             static_cast<ssize_t>(count * kBlock);
    });
    for (std::size_t i = 0; i < count && complaint_.empty(); ++i) compare_one(begin + i, i);
  }

  void compare_one(std::size_t mine, std::size_t place) {
    const std::uint64_t block = first_ + mine;
    const auto* words = reinterpret_cast<const std::uint64_t*>(memory_.get() + place * kBlock);
    for (std::size_t i = 0; i < kBlock / sizeof *words; ++i) {
      if (words[i] == word_at(block, versions_[mine], i)) continue;
      complaint_ = "lost: block " + std::to_string(block) + " does not hold its version " +
                   std::to_string(versions_[mine]) + older(block, mine, words[i], i);
      return;
    }
  }

  std::string older(std::uint64_t block, std::size_t mine, std::uint64_t word,
                    std::uint64_t place) const {
    for (std::uint64_t version = 0; version <= version_; ++version) {
      if (word == word_at(block, version, place)) return ", but " + std::to_string(version);
    }
    return ", and no other of block " + std::to_string(mine);
  }

  UniqueFd device_;
  const std::uint64_t first_;
  std::mt19937_64 random_;
  std::unique_ptr<std::byte, Free> memory_;
  std::array<std::uint64_t, kBlocksPerThread> versions_{};  // what was answered last
  std::uint64_t version_ = 0;
  std::uint64_t answered_ = 0;
  std::chrono::duration<double> longest_{0};
  std::string complaint_;
};

TEST(WriteChecker, NothingThatWasAnsweredIsLost) {
  const std::string node = variable("CHECK_NODE");
  const std::string stop_file = variable("CHECK_STOP");
  const std::uint64_t seed = std::strtoull(variable("CHECK_SEED").c_str(), nullptr, 10);
  const std::uint64_t threads = std::strtoull(variable("CHECK_THREADS").c_str(), nullptr, 10);
  ASSERT_TRUE(!node.empty() && !stop_file.empty() && threads > 0);
  std::vector<std::unique_ptr<Writer>> writers;
  std::vector<std::thread> running;
  for (std::uint64_t i = 0; i < threads; ++i) {
    writers.push_back(std::make_unique<Writer>(node, i, seed));
  }
  for (const auto& writer : writers) running.emplace_back([&] { writer->run(stop_file); });
  for (std::thread& thread : running) thread.join();
  std::uint64_t answered = 0;
  double longest = 0;
  for (const auto& writer : writers) {
    EXPECT_EQ(writer->complaint(), "");
    answered += writer->answered();
    longest = std::max(longest, writer->longest_seconds());
  }
  EXPECT_GT(answered, 0u);
  std::printf("%llu writes answered, longest stall %.2f s\n",
              static_cast<unsigned long long>(answered), longest);
}

}  // namespace
}  // namespace nbdkit
