// SPDX-License-Identifier: BSD-3-Clause
#include "attach/bounded_call.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

namespace nbdkit {
namespace {

constexpr Seconds kPatience{60};
constexpr std::size_t kRoom = 1 << 20;

TEST(BoundedCallTest, WhatWasFoundComesBack) {
  const std::string text(300'000, 'x');
  EXPECT_EQ(bounded_call([&] { return text; }, kPatience, kRoom).value(), text);
}

TEST(BoundedCallTest, WhatDoesNotEndIsGivenUp) {
  auto never = []() -> std::string {
    for (;;) ::pause();
  };
  Result<std::string> result = bounded_call(never, Milliseconds(20), kRoom);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, std::errc::timed_out);
}

TEST(BoundedCallTest, ADeathIsNotOurs) {
  auto die = []() -> std::string {
    ::raise(SIGKILL);
    return "";
  };
  EXPECT_EQ(bounded_call(die, kPatience, kRoom).value(), "");
}

TEST(BoundedCallTest, TooMuchIsCut) {
  auto much = [] { return std::string(100, 'x'); };
  EXPECT_EQ(bounded_call(much, kPatience, 10).value(), std::string(10, 'x'));
}

}  // namespace
}  // namespace nbdkit
