// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <string>

#include "support/stack.h"

namespace nbdkit {
namespace {

std::string contents(const std::string& path) {
  std::ifstream stream(std::string(NBDKIT_TEST_SOURCE_DIR) + "/" + path);
  EXPECT_TRUE(stream) << path;
  return {std::istreambuf_iterator<char>(stream), {}};
}

// As POD shows text as it is: every line one to the right. Without the first line, the licence's.
std::string verbatim(const std::string& text) {
  std::string shown;
  for (std::size_t at = text.find('\n') + 1; at < text.size();) {
    std::size_t end = text.find('\n', at);
    if (end != at) shown += ' ';
    shown += text.substr(at, end - at) + '\n';
    at = end + 1;
  }
  return shown;
}

// Whoever copies the example from the page gets what is tested here.
TEST(FilterPage, ShowsTheExampleAsItIs) {
  std::string page = contents("man/nbdkit-filter.3.pod");
  EXPECT_NE(page.find(verbatim(contents("examples/filter/invert.cc"))), std::string::npos)
      << "copy examples/filter/invert.cc into man/nbdkit-filter.3.pod, indented by one, but for "
         "its first line";
}

struct InvertTest : testing::Test {
  void open(Parameters parameters) {
    auto made = Stack::filter(NBDKIT_EXAMPLE_FILTER, parameters, disk);
    ASSERT_TRUE(made.ok()) << made.error().message();
    stack = std::move(made).value();
    ASSERT_TRUE(stack->open().ok());
  }
  ScriptedLayer disk{1 << 20};
  std::unique_ptr<Stack> stack;
};

TEST_F(InvertTest, StoresBytesInverted) {
  open({});
  ASSERT_TRUE(stack->write(100, "abc").ok());
  EXPECT_EQ(std::memcmp(disk.bytes.data() + 100, "\x9e\x9d\x9c", 3), 0);
  EXPECT_EQ(stack->read(100, 3).value(), "abc");
  EXPECT_EQ(stack->read(0, 1).value(), "\xff");
}

TEST_F(InvertTest, TheMaskSaysWhichBits) {
  open({{"invert-mask", "0x20"}});
  ASSERT_TRUE(stack->write(0, "abc").ok());
  EXPECT_EQ(std::memcmp(disk.bytes.data(), "ABC", 3), 0);
  EXPECT_FALSE(Stack::filter(NBDKIT_EXAMPLE_FILTER, {{"invert-mask", "256"}}, disk).ok());
}

TEST_F(InvertTest, ZeroesAreWritten) {
  open({});
  ASSERT_TRUE(stack->zero(10, 20).ok());
  EXPECT_EQ(disk.calls.back().operation, Operation::write);
  EXPECT_EQ(stack->read(10, 20).value(), std::string(20, '\0'));
  EXPECT_EQ(stack->zero(10, 20, RequestFlags::fast_zero).error().code, std::errc::not_supported);
  disk.extents = {{0, 1 << 20, ExtentType::hole_and_zero}};
  EXPECT_EQ(stack->extents(0, 4096).value()[0].type, ExtentType::data);
}

}  // namespace
}  // namespace nbdkit
