// SPDX-License-Identifier: BSD-3-Clause
// direct=true: past the page cache, to the last byte of a file whose size is odd.
#include <gtest/gtest.h>

#include "faults.h"
#include "support/stack.h"
#include "temporary.h"

namespace nbdkit {
namespace {

class FileDirect : public testing::Test {
 protected:
  FileDirect() { reset_faults(); }

  void serve(const std::string& path) {
    auto made = Stack::plugin("file", {{"file", path}, {"direct", "true"}});
    ASSERT_TRUE(made.ok()) << made.error().message();
    stack = std::move(made).value();
    auto opened = stack->open();
    ASSERT_TRUE(opened.ok()) << opened.error().message();
    align = stack->device().properties().block_size.minimum;
  }

  Temporary folder;
  std::unique_ptr<Stack> stack;
  std::uint64_t align = 0;
};

TEST_F(FileDirect, AnnouncesWhatItNeeds) {
  serve(folder.sparse_file("disk", 1 << 20));
  const Properties& properties = stack->device().properties();
  ASSERT_TRUE(properties.block_size.known());
  EXPECT_GE(align, 512u);
  EXPECT_GE(properties.block_size.preferred, properties.block_size.minimum);
  EXPECT_EQ(properties.block_size.maximum, 0xffffffffu);
  EXPECT_FALSE(properties.can_cache);
  EXPECT_TRUE(stack->layer().contract().swap_fit);
}

TEST_F(FileDirect, UnalignedRequestsAreRefusedAndExplained) {
  std::string path = folder.sparse_file("disk", 1 << 20);
  serve(path);
  std::string block(align, 'x');
  EXPECT_EQ(stack->read(1, align).error().code, std::errc::invalid_argument);
  EXPECT_EQ(stack->read(0, align - 1).error().code, std::errc::invalid_argument);
  EXPECT_EQ(stack->write(1, block).error().code, std::errc::invalid_argument);
  EXPECT_EQ(stack->zero(0, align + 1).error().code, std::errc::invalid_argument);
  EXPECT_NE(stack->read(1, align).error().message().find(path + ": offset 1"), std::string::npos);
  EXPECT_TRUE(stack->write(align, block).ok());
  EXPECT_EQ(stack->read(align, align).value(), block);
}

TEST_F(FileDirect, TheOddEndOfAFileCanBeReadAndWritten) {
  serve(folder.file("disk", std::string(10'000, 'x')));
  std::uint64_t last = 10'000 / align * align;
  EXPECT_EQ(stack->read(last, 10'000 - last).value(), std::string(10'000 - last, 'x'));
  EXPECT_EQ(stack->read(0, 10'000).value(), std::string(10'000, 'x'));
  ASSERT_TRUE(stack->write(last, std::string(10'000 - last, 'e')).ok());
  ASSERT_TRUE(stack->write(4096, std::string(5904, 'y'), RequestFlags::fua).ok());
  EXPECT_EQ(stack->read(0, 10'000).value(), std::string(4096, 'x') + std::string(5904, 'y'));
  ASSERT_TRUE(stack->zero(last, 10'000 - last).ok());
  EXPECT_EQ(stack->read(last, 10'000 - last).value(), std::string(10'000 - last, '\0'));
  ASSERT_TRUE(stack->flush().ok());
  EXPECT_EQ(folder.content("disk").size(), 10'000u);
}

// Filters cut payloads into parts, which begin anywhere in memory.
TEST_F(FileDirect, APayloadMayBeAnywhereInMemory) {
  serve(folder.sparse_file("disk", 1 << 20));
  BufferPool& pool = stack->loop().buffers();
  Buffer buffer = pool.get(65536, 1).value();
  std::fill(buffer.bytes().begin(), buffer.bytes().end(), std::byte{'o'});
  Payload whole(std::move(buffer), pool, 1);
  Payload odd = whole.part(3, align);
  Request request(Offset{align}, align, RequestFlags::fua);
  ASSERT_TRUE(stack->loop().run(stack->device().pwrite(request, odd)).ok());
  EXPECT_EQ(stack->read(align, align).value(), std::string(align, 'o'));
  EXPECT_EQ(faults().odd_addresses, 0);  // Some file systems would quietly use the page cache.
}

TEST_F(FileDirect, ReadingNeverTriesThePageCache) {
  serve(folder.file("disk", std::string(65536, 'x')));
  EXPECT_EQ(stack->read(0, 65536).value(), std::string(65536, 'x'));
  EXPECT_EQ(faults().reads_now, 0);
}

}  // namespace
}  // namespace nbdkit
