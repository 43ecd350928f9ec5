// SPDX-License-Identifier: BSD-3-Clause
#include "async/log_ring.h"

#include <gtest/gtest.h>

#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace nbdkit {
namespace {

// Who writes, and can be kept from it.
class Reader {
 public:
  LogRing::Write writer() {
    return [this](LogLevel level, std::string_view who, std::string_view text) {
      std::unique_lock lock(mutex_);
      thread_ = std::this_thread::get_id();
      busy_ = true;
      changed_.notify_all();
      changed_.wait(lock, [this] { return !held_; });
      lines_.push_back(fmt::format("{} {}: {}", static_cast<int>(level), who, text));
    };
  }
  void hold() {
    std::lock_guard lock(mutex_);
    held_ = true;
    busy_ = false;
  }
  void wait_until_busy() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return busy_; });
  }
  void go_on() {
    std::lock_guard lock(mutex_);
    held_ = false;
    changed_.notify_all();
  }
  // When the ring has ended.
  const std::vector<std::string>& lines() const { return lines_; }
  std::thread::id thread() const { return thread_; }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool held_ = false;
  bool busy_ = false;
  std::vector<std::string> lines_;
  std::thread::id thread_;
};

TEST(LogRing, WritesInOrderOnAThreadOfItsOwn) {
  Reader reader;
  auto ring = std::move(LogRing::start(reader.writer())).value();
  for (int i = 0; i < 3; ++i) ring->push(LogLevel::warning, "file.1", std::to_string(i));
  ring->stop();
  EXPECT_EQ(reader.lines(),
            (std::vector<std::string>{"1 file.1: 0", "1 file.1: 1", "1 file.1: 2"}));
  EXPECT_NE(reader.thread(), std::this_thread::get_id());
}

TEST(LogRing, WhatIsTooLongIsCut) {
  Reader reader;
  auto ring = std::move(LogRing::start(reader.writer())).value();
  ring->push(LogLevel::error, std::string(1000, 'w'), std::string(1000, 't'));
  ring->stop();
  EXPECT_EQ(reader.lines(), std::vector{fmt::format("0 {}: {}", std::string(LogRing::kWhoMax, 'w'),
                                                    std::string(LogRing::kTextMax, 't'))});
}

// Whoever pushes never waits for a log that takes nothing.
TEST(LogRing, WhatFindsNoRoomIsCountedAndTold) {
  Reader reader;
  auto ring = std::move(LogRing::start(reader.writer())).value();
  reader.hold();
  ring->push(LogLevel::error, "", "first");
  reader.wait_until_busy();
  for (std::size_t i = 0; i < LogRing::kMessagesMax + 9; ++i)
    ring->push(LogLevel::error, "", "more");
  reader.go_on();
  ring->stop();
  ASSERT_EQ(reader.lines().size(), LogRing::kMessagesMax + 1);
  EXPECT_EQ(reader.lines().back(), "1 : 10 messages were lost: too many at once");
}

TEST(LogRing, NothingOfSeveralThreadsIsLostOrTorn) {
  constexpr std::size_t kThreads = 4;
  constexpr std::size_t kEach = LogRing::kMessagesMax / kThreads;
  Reader reader;
  auto ring = std::move(LogRing::start(reader.writer())).value();
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < kThreads; ++i) {
    threads.emplace_back([&ring, i] {
      for (std::size_t n = 0; n < kEach; ++n) {
        ring->push(LogLevel::error, "", std::string(100, static_cast<char>('a' + i)));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  ring->stop();
  ASSERT_EQ(reader.lines().size(), kThreads * kEach);
  for (const std::string& line : reader.lines()) {
    EXPECT_EQ(line, "0 : " + std::string(100, line.back()));
  }
}

}  // namespace
}  // namespace nbdkit
