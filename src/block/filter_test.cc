// SPDX-License-Identifier: BSD-3-Clause
#include "block/filter.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "support/stack.h"

namespace nbdkit {
namespace {

constexpr Operation kAll[] = {Operation::read, Operation::write, Operation::flush,  Operation::trim,
                              Operation::zero, Operation::cache, Operation::extents};

class Disk final : public BlockDevice {
 public:
  explicit Disk(std::string& log) : BlockDevice({}), log_(log) {}
  Task<void> pread(Request, Reply&) override { return Result<void>(); }
  Task<void> close() override {
    log_ += "disk ";
    return Result<void>();
  }

 private:
  std::string& log_;
};

class Nothing : public Filter {
 public:
  Nothing(DevicePtr next, std::string& log) : Filter(std::move(next)), log_(log) {}
  Task<void> close() override {
    log_ += "filter ";
    co_await next().close();
  }

 private:
  std::string& log_;
};
class Reader : public Nothing {
 public:
  using Nothing::Nothing;
  Task<void> pread(Request request, Reply& reply) override { return next().pread(request, reply); }
};
// What a base class overrides counts as well.
class ReaderAndFlusher final : public Reader {
 public:
  using Reader::Reader;
  Task<void> flush() override { return next().flush(); }
};

struct FilterTest : testing::Test {
  // `device` on top of a disk, whose address is kept.
  DevicePtr disk() {
    auto made = std::make_unique<Disk>(log);
    bottom = made.get();
    return made;
  }
  BlockDevice* bottom = nullptr;
  std::string log;
  TestLoop loop;
};

TEST_F(FilterTest, OneThatOverridesNothingIsSkippedEverywhere) {
  Chain chain(make_filter<Nothing>(make_filter<Nothing>(disk(), log), log));
  for (Operation operation : kAll) EXPECT_EQ(&chain.target(operation), bottom);
}

TEST_F(FilterTest, OneIsCalledForWhatItOverrides) {
  DevicePtr filter = make_filter<ReaderAndFlusher>(disk(), log);
  BlockDevice* top = filter.get();
  Chain chain(make_filter<Nothing>(std::move(filter), log));
  for (Operation operation : kAll) {
    bool own = operation == Operation::read || operation == Operation::flush;
    EXPECT_EQ(&chain.target(operation), own ? top : bottom);
  }
}

TEST_F(FilterTest, OneThatWasNotMadeByMakeFilterIsNeverSkipped) {
  auto filter = std::make_unique<Nothing>(disk(), log);
  BlockDevice* top = filter.get();
  Chain chain(std::move(filter));
  for (Operation operation : kAll) EXPECT_EQ(&chain.target(operation), top);
}

TEST_F(FilterTest, EveryLayerIsClosedFromTheTop) {
  Chain chain(make_filter<Nothing>(make_filter<Nothing>(disk(), log), log));
  EXPECT_TRUE(loop.run(chain.close()).ok());
  EXPECT_EQ(log, "filter filter disk ");
}

TEST(BlockDevice, WhatADeviceDoesNotOverrideFailsAsNbdSays) {
  std::string log;
  TestLoop loop;
  Disk disk(log);
  Payload payload(std::span<const std::byte>(), loop.buffers(), 1);
  Request request(Offset{0}, 512);
  EXPECT_EQ(loop.run(disk.pwrite(request, payload)).error().code, std::errc::read_only_file_system);
  EXPECT_EQ(loop.run(disk.zero(request)).error().code, std::errc::read_only_file_system);
  EXPECT_EQ(loop.run(disk.flush()).error().code, std::errc::invalid_argument);
  EXPECT_EQ(loop.run(disk.trim(request)).error().code, std::errc::invalid_argument);
  EXPECT_EQ(loop.run(disk.cache(request)).error().code, std::errc::invalid_argument);
  Extents extents(0, 512);
  EXPECT_TRUE(loop.run(disk.extents(request, extents)).ok());
  EXPECT_EQ(extents.list()[0].type, ExtentType::data);
}

TEST(ZeroByWriting, WritesPiecesWithTheirFua) {
  ScriptedLayer disk(3 << 20);
  std::fill(disk.bytes.begin(), disk.bytes.end(), std::byte{0xff});
  auto stack = std::move(Stack::filter("nofilter", {}, disk)).value();
  ASSERT_TRUE(stack->open().ok());
  Request request(Offset{100}, (2 << 20) + 50, RequestFlags::fua | RequestFlags::may_trim);
  BlockDevice& device = stack->device().target(Operation::write);
  ASSERT_TRUE(stack->loop().run(zero_by_writing(device, request, stack->loop().buffers())).ok());
  ASSERT_EQ(disk.calls.size(), 3u);
  for (const Call& call : disk.calls) {
    EXPECT_EQ(call.operation, Operation::write);
    EXPECT_EQ(call.request.flags, RequestFlags::fua);
  }
  EXPECT_EQ(disk.calls[2].request.length, 50u);
  EXPECT_EQ(disk.bytes[99], std::byte{0xff});
  EXPECT_EQ(std::count(disk.bytes.begin(), disk.bytes.end(), std::byte{0}), (2 << 20) + 50);
}

}  // namespace
}  // namespace nbdkit
