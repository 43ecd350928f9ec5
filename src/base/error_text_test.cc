// SPDX-License-Identifier: BSD-3-Clause
#include "base/error_text.h"

#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace nbdkit {
namespace {

TEST(ErrorText, KeepsACopyOfAnyLength) {
  for (std::size_t size :
       {std::size_t{1}, ErrorText::kCellMax, ErrorText::kCellMax + 1, std::size_t{100'000}}) {
    std::string text(size, 'x');
    ErrorText kept(text);
    text.assign(size, 'y');
    EXPECT_EQ(kept.view(), std::string(size, 'x'));
  }
  EXPECT_EQ(ErrorText("").view(), "");
  EXPECT_EQ(ErrorText().view(), "");
}

TEST(ErrorText, MovesWithItsOwner) {
  ErrorText one("one");
  ErrorText two(std::move(one));
  EXPECT_EQ(one.view(), "");
  EXPECT_EQ(two.view(), "one");
  ErrorText three("three");
  three = std::move(two);
  EXPECT_EQ(three.view(), "one");
}

TEST(ErrorText, ThereMayBeMoreThanCells) {
  std::vector<ErrorText> texts;
  for (std::size_t i = 0; i < 3 * ErrorText::kCells; ++i) texts.emplace_back(std::to_string(i));
  for (std::size_t i = 0; i < texts.size(); ++i) EXPECT_EQ(texts[i].view(), std::to_string(i));
}

TEST(ErrorText, ThreadsDoNotDisturbEachOther) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([i] {
      const std::string mine = std::string(200, static_cast<char>('a' + i));
      for (int round = 0; round < 2000; ++round) {
        std::vector<ErrorText> texts;
        for (int n = 0; n < 5; ++n) texts.emplace_back(mine);
        for (const ErrorText& text : texts) ASSERT_EQ(text.view(), mine);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace nbdkit
