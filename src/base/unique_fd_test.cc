// SPDX-License-Identifier: BSD-3-Clause
#include "base/unique_fd.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <utility>

namespace nbdkit {
namespace {

UniqueFd open_null() { return UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC)); }
bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

TEST(UniqueFd, ClosesOnceWhatItOwns) {
  int number;
  {
    UniqueFd fd = open_null();
    ASSERT_TRUE(fd);
    number = fd.get();
    EXPECT_TRUE(is_open(number));
  }
  EXPECT_FALSE(is_open(number));
}

TEST(UniqueFd, OwnershipMoves) {
  UniqueFd one = open_null();
  int number = one.get();
  UniqueFd two(std::move(one));
  EXPECT_FALSE(one);
  EXPECT_EQ(two.get(), number);
  UniqueFd three = open_null();
  int old = three.get();
  three = std::move(two);
  EXPECT_FALSE(is_open(old));
  EXPECT_EQ(three.get(), number);
  UniqueFd& self = three;
  three = std::move(self);
  EXPECT_TRUE(is_open(number));
}

TEST(UniqueFd, ReleaseGivesItAway) {
  UniqueFd fd = open_null();
  int number = fd.release();
  EXPECT_FALSE(fd);
  EXPECT_TRUE(is_open(number));
  fd.reset(number);
  fd.reset();
  EXPECT_FALSE(is_open(number));
}

TEST(UniqueFd, ADuplicateIsCloseOnExecAndItsOwn) {
  UniqueFd fd = open_null();
  Result<UniqueFd> copy = fd.duplicate();
  ASSERT_TRUE(copy.ok());
  EXPECT_NE(copy.value().get(), fd.get());
  EXPECT_EQ(::fcntl(copy.value().get(), F_GETFD), FD_CLOEXEC);
  fd.reset();
  EXPECT_TRUE(is_open(copy.value().get()));
}

TEST(UniqueFd, DuplicatingNothingIsAnError) {
  EXPECT_EQ(UniqueFd().duplicate().error().code, std::errc::bad_file_descriptor);
}

}  // namespace
}  // namespace nbdkit
