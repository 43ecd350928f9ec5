// SPDX-License-Identifier: BSD-3-Clause
#include "block/reply.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <string_view>

namespace nbdkit {
namespace {

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text));
}

std::string text(const Reply& reply) {
  std::string all;
  for (const Reply::Piece& piece : reply.pieces()) {
    if (piece.data == nullptr) {
      all.append(piece.length, '.');
    } else {
      all.append(reinterpret_cast<const char*>(piece.data), piece.length);
    }
  }
  return all;
}

struct Release final : Job {
  void run() noexcept override { ++count; }
  int count = 0;
};

struct ReplyTest : testing::Test {
  void add(Reply& reply, std::string_view data) {
    std::memcpy(reply.buffer(data.size()).value().data(), data.data(), data.size());
  }

  BufferPool pool;
  Release release;
  Reply reply{pool, 1};
};

TEST_F(ReplyTest, KeepsPiecesInOrder) {
  add(reply, "abc");
  reply.hole(2);
  reply.lend(bytes_of("def"));
  EXPECT_EQ(reply.size(), 8u);
  EXPECT_EQ(text(reply), "abc..def");
}

TEST_F(ReplyTest, NeighboursThatWereLentAreOnePiece) {
  std::string_view disk = "0123456789";
  reply.lend(bytes_of(disk.substr(2, 3)));
  reply.lend(bytes_of(disk.substr(5, 2)));
  reply.lend(bytes_of(disk.substr(8, 1)));
  EXPECT_EQ(reply.pieces().size(), 2u);
  EXPECT_EQ(text(reply), "234568");
}

TEST_F(ReplyTest, HolesThatFollowEachOtherAreOnePiece) {
  reply.hole(1);
  reply.hole(std::uint64_t{5} << 30);
  EXPECT_EQ(reply.pieces().size(), 1u);
  EXPECT_EQ(reply.size(), 1 + (std::uint64_t{5} << 30));
}

TEST_F(ReplyTest, WhatWasLentIsReleasedOnce) {
  reply.lend(bytes_of("abc"), &release);
  EXPECT_EQ(release.count, 0);
  reply.clear();
  EXPECT_EQ(release.count, 1);
  EXPECT_EQ(reply.size(), 0u);
  reply.clear();
  EXPECT_EQ(release.count, 1);
}

TEST_F(ReplyTest, AppendTakesEverything) {
  add(reply, "abc");
  {
    Reply other(pool, 1);
    add(other, "de");
    other.lend(bytes_of("fg"), &release);
    reply.append(other);
    EXPECT_EQ(other.size(), 0u);
    EXPECT_TRUE(other.pieces().empty());
  }
  EXPECT_EQ(release.count, 0);
  EXPECT_EQ(text(reply), "abcdefg");
}

TEST_F(ReplyTest, APartKeepsWhatItNeedsAlive) {
  add(reply, "abc");
  {
    Reply other(pool, 1);
    add(other, "defg");
    other.hole(4);
    other.lend(bytes_of("hijk"), &release);
    reply.append_part(other, 2, 7);
    EXPECT_EQ(other.size(), 0u);
  }
  EXPECT_EQ(reply.size(), 10u);
  EXPECT_EQ(text(reply), "abcfg....h");
  EXPECT_EQ(release.count, 0);
  reply.clear();
  EXPECT_EQ(release.count, 1);
}

TEST_F(ReplyTest, APartOfOneBufferIsNotTakenForTheBuffer) {
  Reply other(pool, 1);
  add(other, "abcdef");
  reply.append_part(other, 1, 3);
  std::span<std::byte> bytes = reply.mutable_bytes().value();
  ASSERT_EQ(bytes.size(), 3u);
  EXPECT_EQ(text(reply), "bcd");
}

TEST_F(ReplyTest, MutableBytesOfOneBufferAreNotCopied) {
  add(reply, "abc");
  const std::byte* before = reply.pieces()[0].data;
  std::span<std::byte> bytes = reply.mutable_bytes().value();
  EXPECT_EQ(bytes.data(), before);
}

TEST_F(ReplyTest, MutableBytesGatherWhatIsInPieces) {
  add(reply, "abc");
  reply.hole(2);
  reply.lend(bytes_of("fgh"), &release);
  std::span<std::byte> bytes = reply.mutable_bytes().value();
  EXPECT_EQ(release.count, 1);  // Copied, so its owner has it back.
  ASSERT_EQ(bytes.size(), 8u);
  EXPECT_EQ(std::memcmp(bytes.data(), "abc\0\0fgh", 8), 0);
  bytes[0] = std::byte{'A'};
  EXPECT_EQ(reply.pieces().size(), 1u);
  EXPECT_EQ(static_cast<const void*>(reply.pieces()[0].data), bytes.data());
}

// A mapping of the plugin's may happen to lie right behind a buffer of the pool.
TEST_F(ReplyTest, LentMemoryBehindABufferIsNotTakenForTheBuffer) {
  std::span<std::byte> page = reply.buffer(100).value();
  std::memset(page.data(), 'a', 100);
  std::memset(page.data() + 100, 'b', 50);  // The rest of the page: 4096 bytes are the least.
  reply.lend({page.data() + 100, 50});
  ASSERT_EQ(reply.pieces().size(), 1u);
  std::span<std::byte> bytes = reply.mutable_bytes().value();
  ASSERT_EQ(bytes.size(), 150u);
  EXPECT_EQ(text(reply), std::string(100, 'a') + std::string(50, 'b'));
}

TEST_F(ReplyTest, MutableBytesOfNothingAreNone) {
  EXPECT_TRUE(reply.mutable_bytes().value().empty());
}

}  // namespace
}  // namespace nbdkit
