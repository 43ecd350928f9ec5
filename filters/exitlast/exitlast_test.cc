// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include <memory>

#include "support/stack.h"

namespace nbdkit {
namespace {

TEST(Exitlast, EndsTheServerWithTheLastClient) {
  ScriptedLayer disk(4096);
  auto stack = Stack::filter("exitlast", {}, disk);
  ASSERT_TRUE(stack.ok()) << stack.error().message();
  auto first = std::make_unique<OtherConnection>(*stack.value());
  auto second = std::make_unique<OtherConnection>(*stack.value());
  first.reset();
  EXPECT_EQ(stack.value()->times_shut_down(), 0);
  auto third = std::make_unique<OtherConnection>(*stack.value());
  second.reset();
  EXPECT_EQ(stack.value()->times_shut_down(), 0);
  third.reset();
  EXPECT_EQ(stack.value()->times_shut_down(), 1);
}

TEST(Exitlast, PassesEverythingThrough) {
  ScriptedLayer disk(4096);
  auto stack = Stack::filter("exitlast", {}, disk);
  ASSERT_TRUE(stack.value()->open().ok());
  ASSERT_TRUE(stack.value()->write(512, "hello").ok());
  EXPECT_EQ(stack.value()->read(512, 5).value(), "hello");
}

}  // namespace
}  // namespace nbdkit
