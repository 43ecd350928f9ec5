// SPDX-License-Identifier: BSD-3-Clause
#include "base/result.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>

namespace nbdkit {
namespace {

Result<int> half(int n) {
  if (n % 2 != 0) return Error(std::errc::invalid_argument, "odd");
  return n / 2;
}
Result<void> quarter(int n, int& out) {
  Result<int> one = half(n);
  NBDKIT_TRY(one.ok() ? Result<void>() : Result<void>(std::move(one).error()));
  NBDKIT_TRY(half(one.value()));
  out = one.value() / 2;
  return {};
}

TEST(Result, IsAValueOrAnError) {
  EXPECT_EQ(half(4).value(), 2);
  EXPECT_FALSE(half(3).ok());
  EXPECT_EQ(half(3).error().code, std::errc::invalid_argument);
  EXPECT_EQ(half(3).error().message(), "odd");
}

TEST(Result, TryReturnsTheError) {
  int out = -1;
  EXPECT_FALSE(quarter(6, out).ok());
  EXPECT_EQ(out, -1);
  EXPECT_TRUE(quarter(8, out).ok());
  EXPECT_EQ(out, 2);
}

TEST(Result, HoldsWhatCanOnlyBeMoved) {
  Result<std::unique_ptr<int>> result = std::make_unique<int>(7);
  std::unique_ptr<int> value = std::move(result).value();
  EXPECT_EQ(*value, 7);
}

TEST(Error, WithoutDetailSpeaksTheWordsOfItsCode) {
  Error error(std::errc::io_error, {});
  EXPECT_EQ(error.detail(), "");
  EXPECT_EQ(error.message(), "Input/output error");
}

TEST(Error, FromErrnoNamesWhatFailed) {
  Error error = os_error("opening x", ENOENT);
  EXPECT_EQ(error.code, std::errc::no_such_file_or_directory);
  EXPECT_EQ(error.message(), "opening x: No such file or directory");
}

}  // namespace
}  // namespace nbdkit
