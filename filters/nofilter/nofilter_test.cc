// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include "support/stack.h"

namespace nbdkit {
namespace {

TEST(Nofilter, TakesNoPartInAnyOperation) {
  ScriptedLayer disk(4096);
  auto stack = Stack::filter("nofilter", {}, disk);
  ASSERT_TRUE(stack.ok()) << stack.error().message();
  ASSERT_TRUE(stack.value()->open().ok());
  ASSERT_TRUE(stack.value()->write(512, "hello").ok());
  EXPECT_EQ(stack.value()->read(512, 5).value(), "hello");
  EXPECT_EQ(disk.calls.size(), 2u);
}

}  // namespace
}  // namespace nbdkit
