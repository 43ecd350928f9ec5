// SPDX-License-Identifier: BSD-3-Clause
#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "support/stack.h"

namespace nbdkit {
namespace {

struct OffsetTest : testing::Test {
  // Opens the filter over `disk`; the Error is what a user would read.
  Result<void> open(Parameters parameters) {
    auto made = Stack::filter("offset", parameters, disk);
    if (!made.ok()) return std::move(made).error();
    stack = std::move(made).value();
    Result<Chain*> opened = stack->open();
    if (!opened.ok()) return std::move(opened).error();
    return {};
  }
  std::string error(Parameters parameters) {
    Result<void> opened = open(parameters);
    return opened.ok() ? "no error" : opened.error().message();
  }

  ScriptedLayer disk{1 << 20};
  std::unique_ptr<Stack> stack;
};

TEST_F(OffsetTest, ServesTheRangeAndNothingElse) {
  ASSERT_TRUE(open({{"offset", "4k"}, {"range", "64k"}}).ok());
  EXPECT_EQ(stack->device().properties().size, 65536u);
  ASSERT_TRUE(stack->write(10, "hello").ok());
  EXPECT_EQ(static_cast<char>(disk.bytes[4096 + 10]), 'h');
  EXPECT_EQ(stack->read(10, 5).value(), "hello");
}

TEST_F(OffsetTest, WithoutParametersServesEverything) {
  ASSERT_TRUE(open({}).ok());
  EXPECT_EQ(stack->device().properties().size, 1u << 20);
}

TEST_F(OffsetTest, WithoutRangeServesTheRest) {
  ASSERT_TRUE(open({{"offset", "1000"}}).ok());
  EXPECT_EQ(stack->device().properties().size, (1u << 20) - 1000);
}

TEST_F(OffsetTest, TheRangeMayEndWithTheDiskAndBeEmpty) {
  ASSERT_TRUE(open({{"offset", "4k"}, {"range", "1044480"}}).ok());
  ASSERT_TRUE(open({{"offset", "1M"}}).ok());
  EXPECT_EQ(stack->device().properties().size, 0u);
  ASSERT_TRUE(open({{"range", "0"}}).ok());
  EXPECT_EQ(stack->device().properties().size, 0u);
}

TEST_F(OffsetTest, EveryOperationIsShifted) {
  ASSERT_TRUE(open({{"offset", "4k"}}).ok());
  ASSERT_TRUE(stack->write(1, "x", RequestFlags::fua).ok());
  ASSERT_TRUE(stack->trim(2, 3).ok());
  ASSERT_TRUE(stack->zero(3, 4, RequestFlags::may_trim).ok());
  ASSERT_TRUE(stack->loop().run(stack->device().cache(Request(Offset{4}, 5))).ok());
  ASSERT_TRUE(stack->flush().ok());
  ASSERT_EQ(disk.calls.size(), 5u);
  for (std::uint64_t i = 0; i < 4; ++i) EXPECT_EQ(disk.calls[i].request.offset, 4097 + i);
  EXPECT_EQ(disk.calls[0].request.flags, RequestFlags::fua);
  EXPECT_EQ(disk.calls[2].request.flags, RequestFlags::may_trim);
  EXPECT_EQ(disk.calls[4].operation, Operation::flush);
}

TEST_F(OffsetTest, ExtentsAreShiftedBack) {
  ASSERT_TRUE(open({{"offset", "4k"}, {"range", "8k"}}).ok());
  auto extents = stack->extents(512, 1024, RequestFlags::one);
  ASSERT_TRUE(extents.ok());
  ASSERT_EQ(extents.value().size(), 1u);
  EXPECT_EQ(extents.value()[0].offset, 512u);
  EXPECT_EQ(extents.value()[0].length, 1024u);
  EXPECT_EQ(disk.calls[0].request.offset, 4096u + 512);
  EXPECT_TRUE(disk.calls[0].request.has(RequestFlags::one));
}

TEST_F(OffsetTest, AFailureBelowIsPassedOn) {
  ASSERT_TRUE(open({{"offset", "4k"}}).ok());
  disk.fail(Operation::extents, {std::errc::io_error});
  auto extents = stack->extents(0, 512);
  ASSERT_FALSE(extents.ok());
  EXPECT_EQ(extents.error().code, std::errc::io_error);
}

TEST_F(OffsetTest, WhatLiesBeyondTheEndIsRefused) {
  EXPECT_NE(error({{"offset", "2M"}}).find("offset=2097152 lies beyond the end"),
            std::string::npos);
  EXPECT_NE(error({{"offset", "1"}, {"range", "1M"}}).find("offset=1 range=1048576 lies beyond"),
            std::string::npos);
  EXPECT_NE(error({{"range", "9223372036854775807"}, {"offset", "1M"}}).find("lies beyond"),
            std::string::npos);
}

TEST_F(OffsetTest, BadNumbersAreRefused) {
  EXPECT_NE(error({{"offset", "-1"}}).find("offset=-1"), std::string::npos);
  EXPECT_NE(error({{"range", "1x"}}).find("range=1x"), std::string::npos);
}

// A client that keeps to whole blocks would hit two of them with every request.
TEST_F(OffsetTest, TheAlignmentBelowMustBeKept) {
  disk.properties.block_size = {4096, 65536, 0xffffffff};
  EXPECT_NE(error({{"offset", "512"}}).find("offset=512 is no multiple of 4096"),
            std::string::npos);
  EXPECT_NE(error({{"range", "5000"}}).find("range=5000 is no multiple of 4096"),
            std::string::npos);
  EXPECT_TRUE(open({{"offset", "4k"}, {"range", "8k"}}).ok());
}

TEST_F(OffsetTest, AnUnalignedEndBelowIsNoReasonToRefuse) {
  disk.properties.block_size = {512, 4096, 0xffffffff};
  disk.properties.size = (1 << 20) - 100;
  EXPECT_TRUE(open({{"offset", "512"}}).ok());
}

TEST_F(OffsetTest, ThePreferredBlockIsWhatTheOffsetLeavesOfIt) {
  disk.properties.block_size = {512, 65536, 0xffffffff};
  ASSERT_TRUE(open({{"offset", "128k"}}).ok());
  EXPECT_EQ(stack->device().properties().block_size.preferred, 65536u);
  ASSERT_TRUE(open({{"offset", "12k"}}).ok());
  EXPECT_EQ(stack->device().properties().block_size.preferred, 4096u);
  EXPECT_EQ(stack->device().properties().block_size.minimum, 512u);
  disk.properties.block_size = {1, 65536, 0xffffffff};
  ASSERT_TRUE(open({{"offset", "3"}}).ok());
  EXPECT_EQ(stack->device().properties().block_size.preferred, 512u);
}

TEST_F(OffsetTest, ChangesWhichBytesAreWhereAndKeepsEveryPromise) {
  ASSERT_TRUE(open({}).ok());
  Contract contract = stack->layer().contract();
  EXPECT_FALSE(contract.transparent);
  EXPECT_EQ(contract.survives, Survives::durable);
  EXPECT_EQ(contract.multi_conn, MultiConn::as_below);
}

}  // namespace
}  // namespace nbdkit
