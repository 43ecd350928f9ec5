// SPDX-License-Identifier: BSD-3-Clause
// Durability: flush and FUA, and that a failure is never forgotten.
#include <gtest/gtest.h>

#include "faults.h"
#include "support/stack.h"
#include "temporary.h"

namespace nbdkit {
namespace {

class FileFlush : public testing::Test {
 protected:
  FileFlush() {
    reset_faults();
    stack = Stack::plugin("file", {{"file", path}}).value();
  }
  ~FileFlush() override { reset_faults(); }

  Temporary folder;
  std::string path = folder.file("disk", std::string(65536, 'x'));
  std::unique_ptr<Stack> stack;
};

TEST_F(FileFlush, FlushAndFuaReachTheKernel) {
  OtherConnection one(*stack);
  ASSERT_TRUE(one.flush().ok());
  EXPECT_EQ(faults().fdatasyncs, 1);
  ASSERT_TRUE(one.write(0, "y", RequestFlags::fua).ok());
  EXPECT_EQ(faults().durable_writes, 1);
  EXPECT_EQ(faults().fdatasyncs, 1);
  ASSERT_TRUE(one.zero(0, 4096, RequestFlags::fua).ok());
  EXPECT_EQ(faults().fdatasyncs, 2);
  Request trim(Offset{0}, 4096, RequestFlags::fua);
  ASSERT_TRUE(one.loop().run(one.device().trim(trim)).ok());
  EXPECT_EQ(faults().fdatasyncs, 3);
  ASSERT_TRUE(one.write(0, "z").ok());
  ASSERT_TRUE(one.zero(0, 4096).ok());
  EXPECT_EQ(faults().durable_writes, 1);
  EXPECT_EQ(faults().fdatasyncs, 3);
}

TEST_F(FileFlush, AFailedFlushStaysFailedOnAllConnectionsUntilTheFileIsOpenedAnew) {
  {
    OtherConnection one(*stack);
    OtherConnection other(*stack);
    faults().fdatasync = EIO;
    Result<void> first = other.flush();
    EXPECT_EQ(first.error().message(), path + ": fdatasync: Input/output error");
    faults().fdatasync = 0;
    for (OtherConnection* connection : {&one, &other}) {
      Result<void> flush = connection->flush();
      ASSERT_FALSE(flush.ok());
      EXPECT_EQ(flush.error().code, std::errc::io_error);
      EXPECT_NE(flush.error().message().find(path + ": data was lost"), std::string::npos);
      EXPECT_FALSE(connection->write(0, "y", RequestFlags::fua).ok());
      EXPECT_FALSE(connection->zero(0, 512, RequestFlags::fua).ok());
      EXPECT_TRUE(connection->write(0, "y").ok());
      EXPECT_EQ(connection->read(0, 2).value(), "yx");
    }
    OtherConnection late(*stack);
    EXPECT_FALSE(late.flush().ok());
  }
  OtherConnection anew(*stack);
  EXPECT_TRUE(anew.flush().ok());
  EXPECT_TRUE(anew.write(0, "z", RequestFlags::fua).ok());
}

// It is somebody else's open file, and the kernel has reported the failure to it already.
TEST_F(FileFlush, AFailedFlushOfAnInheritedDescriptorIsForEver) {
  UniqueFd fd(::open(path.c_str(), O_RDWR));
  stack = Stack::plugin("file", {{"fd", std::to_string(fd.get())}}).value();
  faults().fdatasync = EIO;
  EXPECT_FALSE(OtherConnection(*stack).flush().ok());
  faults().fdatasync = 0;
  EXPECT_FALSE(OtherConnection(*stack).flush().ok());
}

TEST_F(FileFlush, AFailedFuaWriteIsAFailedFlush) {
  OtherConnection one(*stack);
  faults().durable_write = EIO;
  EXPECT_EQ(one.write(0, "y", RequestFlags::fua).error().code, std::errc::io_error);
  faults().durable_write = 0;
  EXPECT_FALSE(one.flush().ok());
  EXPECT_FALSE(one.write(0, "y", RequestFlags::fua).ok());
  EXPECT_EQ(faults().fdatasyncs, 0);
}

TEST_F(FileFlush, AFuaWriteThatCouldNotEvenBeWrittenLosesNothing) {
  OtherConnection one(*stack);
  faults().durable_write = faults().plain_write = ENOSPC;
  EXPECT_EQ(one.write(0, "y", RequestFlags::fua).error().code, std::errc::no_space_on_device);
  faults().durable_write = faults().plain_write = 0;
  EXPECT_TRUE(one.flush().ok());
  EXPECT_TRUE(one.write(0, "y", RequestFlags::fua).ok());
}

TEST_F(FileFlush, WithoutDurableWritesFuaIsAWriteAndAFlush) {
  OtherConnection one(*stack);
  faults().durable_write = EOPNOTSUPP;
  ASSERT_TRUE(one.write(0, "y", RequestFlags::fua).ok());
  EXPECT_EQ(faults().fdatasyncs, 1);
  EXPECT_EQ(folder.content("disk")[0], 'y');
  EXPECT_TRUE(one.flush().ok());
}

// The kernel tells one caller only. Of those who ask at the same time nobody may get away.
TEST_F(FileFlush, EveryFlushUnderWayFailsWhenOneDoes) {
  faults().fdatasync = EIO;
  OtherConnection one(*stack);
  int ended = 0;
  auto end = [&](Result<void> result) {
    EXPECT_FALSE(result.ok());
    faults().fdatasync = 0;
    if (++ended == 8) one.loop().stop();
  };
  for (int i = 0; i < 8; ++i) finish(one.device().flush(), end);
  one.loop().Loop::run();
  EXPECT_EQ(ended, 8);
  EXPECT_EQ(faults().fdatasyncs, 1);
}

TEST_F(FileFlush, ManyFuaWritesAtATimeAreAllWritten) {
  OtherConnection one(*stack);
  std::string data(4096, 'f');
  std::vector<std::unique_ptr<Payload>> payloads;
  int ended = 0;
  for (std::uint64_t i = 0; i < 16; ++i) {
    payloads.push_back(
        std::make_unique<Payload>(std::as_bytes(std::span(data)), one.loop().buffers(), 1));
    Request request(Offset{i * 4096}, 4096, RequestFlags::fua);
    finish(one.device().pwrite(request, *payloads.back()), [&](Result<void> result) {
      EXPECT_TRUE(result.ok());
      if (++ended == 16) one.loop().stop();
    });
  }
  one.loop().Loop::run();
  EXPECT_EQ(folder.content("disk"), std::string(65536, 'f'));
  EXPECT_GE(faults().fdatasyncs + faults().durable_writes, 1);
}

}  // namespace
}  // namespace nbdkit
