// SPDX-License-Identifier: BSD-3-Clause
#include "client/reply_reader.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

#include "support/wire_server.h"

namespace nbdkit {
namespace {

constexpr std::uint64_t kOffset = 4096;

enum class Form { simple, structured, extended };

struct Reader : ReplyReader::Requests {
  explicit Reader(Form form) {
    agreement.size = 1 << 20;
    agreement.structured_replies = form != Form::simple;
    agreement.extended_headers = form == Form::extended;
    agreement.base_allocation = 7;
  }

  // A request for 16 bytes at kOffset.
  PendingReply& asked(Command command, std::uint64_t cookie = 1) {
    PendingReply& reply = pending[cookie];
    reply.header = {command, 0, Cookie{cookie}, kOffset, 16};
    data[cookie].assign(16, '.');
    reply.into = std::as_writable_bytes(std::span(data[cookie]));
    reply.extents = &extents;
    return reply;
  }

  PendingReply* find(Cookie cookie) override {
    auto found = pending.find(static_cast<std::uint64_t>(cookie));
    bool waits = found != pending.end() && !done.contains(found->first);
    return waits ? &found->second : nullptr;
  }
  void answered(PendingReply& reply) override {
    done[static_cast<std::uint64_t>(reply.header.cookie)] =
        reply.error ? reply.error->message() : "ok";
  }

  Result<void> take(std::string_view bytes) { return reader.take(std::as_bytes(std::span(bytes))); }
  // The violation that ends the stream.
  std::string refused(std::string_view bytes) {
    Result<void> taken = take(bytes);
    EXPECT_FALSE(taken.ok());
    return taken.ok() ? "" : taken.error().message();
  }

  ClientAgreement agreement;
  std::map<std::uint64_t, PendingReply> pending;
  std::map<std::uint64_t, std::string> data;
  std::map<std::uint64_t, std::string> done;
  std::vector<StatusExtent> extents;
  ReplyReader reader{*this, agreement};
};

std::string simple(std::uint64_t cookie, std::uint32_t error = 0) {
  SimpleReplyWire wire;
  wire.error = error;
  wire.cookie = Cookie{cookie};
  return wire_bytes(wire);
}

std::string chunk(ChunkType type, std::string_view body, bool done = true,
                  std::uint64_t cookie = 1) {
  std::uint16_t flags = done ? kChunkDone : std::uint16_t{0};
  return wire_bytes(ChunkWire{kChunkMagic, flags, type, Cookie{cookie},
                              static_cast<std::uint32_t>(body.size())}) +
         std::string(body);
}

std::string extended(ChunkType type, std::string_view body) {
  return wire_bytes(ExtendedChunkWire{kExtendedChunkMagic, kChunkDone, type, Cookie{1}, kOffset,
                                      std::uint64_t{body.size()}}) +
         std::string(body);
}

std::string data(std::uint64_t from, std::string_view bytes, bool done = true,
                 std::uint64_t cookie = 1) {
  return chunk(ChunkType::offset_data, WireServer::data_body(kOffset + from, bytes), done, cookie);
}

std::string hole(std::uint64_t from, std::uint32_t length, bool done = true) {
  return chunk(ChunkType::offset_hole, WireServer::hole_body(kOffset + from, length), done);
}

std::string error_body(std::uint32_t error, std::string_view text) {
  return wire_number(error) + wire_number(static_cast<std::uint16_t>(text.size())) +
         std::string(text);
}

std::string extent(std::uint32_t length, std::uint32_t flags) {
  return wire_number(length) + wire_number(flags);
}
std::string long_extent(std::uint64_t length, std::uint64_t flags) {
  return wire_number(length) + wire_number(flags);
}

TEST(ReplyReader, SimpleRepliesHaveDataOrAnError) {
  Reader reader(Form::simple);
  reader.asked(Command::read, 1);
  reader.asked(Command::read, 2);
  reader.asked(Command::write, 3);
  ASSERT_TRUE(reader.take(simple(3) + simple(2, 28) + simple(1) + "0123456789abcdef").ok());
  EXPECT_EQ(reader.data[1], "0123456789abcdef");
  EXPECT_EQ(reader.pending[2].error->code, std::errc::no_space_on_device);
  EXPECT_EQ(reader.done.size(), 3u);
}

TEST(ReplyReader, DataCanBeReceivedStraightIntoItsPlace) {
  Reader reader(Form::simple);
  reader.asked(Command::read);
  ASSERT_TRUE(reader.take(simple(1) + "01234").ok());
  std::span<std::byte> rest = reader.reader.destination();
  ASSERT_EQ(rest.size(), 11u);
  std::memcpy(rest.data(), "56789abcdef", 11);
  ASSERT_TRUE(reader.reader.filled(11).ok());
  EXPECT_EQ(reader.data[1], "0123456789abcdef");
  EXPECT_EQ(reader.done[1], "ok");
}

TEST(ReplyReader, ChunksOfSeveralAnswersMayBeMixed) {
  Reader reader(Form::structured);
  reader.asked(Command::read, 1);
  reader.asked(Command::read, 2);
  ASSERT_TRUE(
      reader.take(data(8, "89abcdef", false, 1) + data(0, "ABCDEFGHIJKLMNOP", true, 2)).ok());
  EXPECT_EQ(reader.done.count(1), 0u);
  ASSERT_TRUE(reader.take(data(0, "01234567", true, 1)).ok());
  EXPECT_EQ(reader.data[1], "0123456789abcdef");
  EXPECT_EQ(reader.data[2], "ABCDEFGHIJKLMNOP");
  EXPECT_EQ(reader.done.size(), 2u);
}

TEST(ReplyReader, HolesReadAsZeroes) {
  Reader reader(Form::structured);
  reader.asked(Command::read);
  ASSERT_TRUE(reader.take(data(0, "0123", false) + hole(4, 8, false) + data(12, "cdef")).ok());
  EXPECT_EQ(reader.data[1], std::string("0123") + std::string(8, '\0') + "cdef");
  EXPECT_EQ(reader.done[1], "ok");
}

TEST(ReplyReader, EverySplitOfTheStreamMakesTheSameAnswers) {
  std::string stream = data(0, "0123", false) + hole(4, 8, false) +
                       chunk(ChunkType::error, error_body(5, "a text"), false, 2) +
                       data(12, "cdef", false) + chunk(ChunkType::none, "", true, 2) +
                       chunk(ChunkType::none, "");
  for (std::size_t first = 0; first <= stream.size(); ++first) {
    Reader reader(Form::structured);
    reader.asked(Command::read, 1);
    reader.asked(Command::write, 2);
    ASSERT_TRUE(reader.take(std::string_view(stream).substr(0, first)).ok());
    for (char one : stream.substr(first)) ASSERT_TRUE(reader.take(std::string(1, one)).ok());
    EXPECT_EQ(reader.done[1], "ok");
    EXPECT_EQ(reader.done[2], "a text");
    EXPECT_EQ(reader.data[1], std::string("0123") + std::string(8, '\0') + "cdef");
  }
}

TEST(ReplyReader, AReadThatIsNotAnsweredInFullFails) {
  Reader reader(Form::structured);
  reader.asked(Command::read, 1);
  reader.asked(Command::read, 2);
  ASSERT_TRUE(reader.take(data(0, "01234567")).ok());
  ASSERT_TRUE(reader.take(chunk(ChunkType::none, "", true, 2)).ok());
  EXPECT_EQ(reader.done[1], "the server has left a part out");
  EXPECT_EQ(reader.done[2], "the server has left a part out");
}

TEST(ReplyReader, TheFirstErrorOfAnAnswerIsTheOneThatCounts) {
  Reader reader(Form::structured);
  reader.asked(Command::read);
  std::string at = error_body(22, "beyond\nthe end") + wire_number(kOffset + 8);
  ASSERT_TRUE(reader
                  .take(data(0, "01234567", false) + chunk(ChunkType::error_offset, at, false) +
                        chunk(ChunkType::error, error_body(5, "other")))
                  .ok());
  EXPECT_EQ(reader.done[1], "beyond?the end");
  EXPECT_EQ(reader.pending[1].error->code, std::errc::invalid_argument);
}

TEST(ReplyReader, AnUnknownKindOfErrorIsAnError) {
  Reader reader(Form::structured);
  reader.asked(Command::write);
  auto unknown = static_cast<ChunkType>(0x8077);
  ASSERT_TRUE(reader.take(chunk(unknown, error_body(12, "why") + "and more")).ok());
  EXPECT_EQ(reader.pending[1].error->code, std::errc::not_enough_memory);
}

TEST(ReplyReader, ExtentsAreCutAtTheEndOfTheExport) {
  Reader reader(Form::structured);
  reader.asked(Command::block_status);
  std::string body = wire_number(std::uint32_t{7}) + extent(512, 0) + extent(1 << 31, 3);
  ASSERT_TRUE(reader.take(chunk(ChunkType::block_status, body)).ok());
  std::vector<StatusExtent> expected{{512, 0}, {(1 << 20) - kOffset - 512, 3}};
  EXPECT_EQ(reader.extents, expected);
}

TEST(ReplyReader, ExtendedHeadersHaveLongExtents) {
  Reader reader(Form::extended);
  reader.agreement.size = std::uint64_t{1} << 40;
  reader.asked(Command::block_status);
  std::string body = wire_number(std::uint32_t{7}) + wire_number(std::uint32_t{2}) +
                     long_extent(std::uint64_t{1} << 33, 1) + long_extent(512, 0);
  ASSERT_TRUE(reader.take(extended(ChunkType::block_status_extended, body)).ok());
  std::vector<StatusExtent> expected{{std::uint64_t{1} << 33, 1}, {512, 0}};
  EXPECT_EQ(reader.extents, expected);
}

struct Hostile {
  const char* what;
  Form form;
  Command command;
  std::string bytes;
};

std::vector<Hostile> hostile_streams() {
  const std::string context = wire_number(std::uint32_t{7});
  const Command read = Command::read, write = Command::write, status = Command::block_status;
  const Form s = Form::structured, x = Form::extended;
  const std::string sixteen = "0123456789abcdef";
  return {
      {"no answer at all", Form::simple, read, std::string(16, 'x')},
      {"an answer to nothing", Form::simple, read, simple(2)},
      {"the same answer twice", Form::simple, write, simple(1) + simple(1)},
      {"a chunk that was not agreed upon", Form::simple, read, data(0, sixteen)},
      {"simple data where chunks were agreed upon", s, read, simple(1) + sixteen},
      {"a simple answer among extended ones", x, write, simple(1)},
      {"a short chunk among extended ones", x, read, data(0, sixteen)},
      {"extents in a simple answer", s, status, simple(1)},
      {"another form half-way", s, read, data(0, "01", false) + simple(1, 5)},
      {"data before the range", s, read, data(std::uint64_t(-1), "01", false)},
      {"data behind the range", s, read, data(15, "01", false)},
      {"data at the end of the world", s, read, data(std::uint64_t(-1) - kOffset, "01", false)},
      {"too much data", s, read, data(0, sixteen + "!")},
      {"no data", s, read, data(0, "", false)},
      {"data twice", s, read, data(0, "01", false) + data(1, "12", false)},
      {"a hole over data", s, read, data(4, "01", false) + hole(0, 5, false)},
      {"a hole behind the range", s, read, hole(8, 9)},
      {"a hole that overflows", s, read, hole(8, 0xffffffff)},
      {"a hole of nothing", s, read, hole(0, 0)},
      {"a hole with a tail", s, read,
       chunk(ChunkType::offset_hole, WireServer::hole_body(kOffset, 4) + "x")},
      {"data for a write", s, write, data(0, sixteen)},
      {"extents for a read", s, read, chunk(ChunkType::block_status, context + extent(1, 0))},
      {"an empty chunk that is none", s, write, chunk(ChunkType::none, "x")},
      {"an empty chunk that is not the last", s, write, chunk(ChunkType::none, "", false)},
      {"an unknown chunk", s, write, chunk(static_cast<ChunkType>(99), "")},
      {"an error that is none", s, write, chunk(ChunkType::error, error_body(0, ""))},
      {"an error without its number", s, write, chunk(ChunkType::error, "12345")},
      {"an error with a tail", s, write, chunk(ChunkType::error, error_body(5, "x") + "y")},
      {"an error's text that is too long", s, write,
       chunk(ChunkType::error, wire_number(std::uint32_t{5}) + wire_number(std::uint16_t{9}))},
      {"an error elsewhere", s, read,
       chunk(ChunkType::error_offset, error_body(5, "") + wire_number(std::uint64_t{1}))},
      {"an error of 4 GiB", x, write,
       wire_bytes(ExtendedChunkWire{kExtendedChunkMagic, kChunkDone, ChunkType::error, Cookie{1},
                                    kOffset, std::uint64_t{1} << 32})},
      {"data of 2^64 bytes", x, read,
       wire_bytes(ExtendedChunkWire{kExtendedChunkMagic, kChunkDone, ChunkType::offset_data,
                                    Cookie{1}, kOffset, ~std::uint64_t{0}}) +
           wire_number(kOffset)},
      {"extents of other metadata", s, status,
       chunk(ChunkType::block_status, wire_number(std::uint32_t{8}) + extent(1, 0))},
      {"no extents", s, status, chunk(ChunkType::block_status, context)},
      {"half an extent", s, status,
       chunk(ChunkType::block_status, context + extent(1, 0) + "1234")},
      {"an empty extent", s, status, chunk(ChunkType::block_status, context + extent(0, 0))},
      {"extents twice", s, status,
       chunk(ChunkType::block_status, context + extent(1, 0), false) +
           chunk(ChunkType::block_status, context + extent(1, 0))},
      {"short extents among extended ones", x, status,
       extended(ChunkType::block_status, context + extent(1, 0) + extent(1, 0))},
      {"another number of extents", x, status,
       extended(ChunkType::block_status_extended,
                context + wire_number(std::uint32_t{2}) + long_extent(1, 0))},
      {"extents that overflow", x, status,
       extended(ChunkType::block_status_extended, context + wire_number(std::uint32_t{2}) +
                                                      long_extent(~std::uint64_t{0} - 5000, 0) +
                                                      long_extent(5000, 0))},
      {"more extents than anybody needs", x, status,
       wire_bytes(ExtendedChunkWire{kExtendedChunkMagic, kChunkDone,
                                    ChunkType::block_status_extended, Cookie{1}, kOffset,
                                    8 + 16 * (ReplyReader::kExtentsMax + 1)})},
  };
}

TEST(ReplyReader, WhatNoServerMaySayEndsTheStream) {
  for (const Hostile& hostile : hostile_streams()) {
    Reader reader(hostile.form);
    reader.asked(hostile.command);
    EXPECT_NE(reader.refused(hostile.bytes), "") << hostile.what;
  }
}

// Nothing is written beyond the place of the data, whatever comes; the sanitizers watch.
TEST(ReplyReader, NoiseDoesNoHarm) {
  std::mt19937 random(1);
  std::vector<Hostile> streams = hostile_streams();
  for (int round = 0; round < 20'000; ++round) {
    const Hostile& one = streams[random() % streams.size()];
    Reader reader(one.form);
    reader.asked(one.command);
    reader.asked(Command::read, 2);
    std::string bytes = data(0, "0123", false, 2) + one.bytes + one.bytes;
    for (int flips = static_cast<int>(random() % 4); flips > 0; --flips) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    static_cast<void>(reader.take(bytes).ok());
  }
}

}  // namespace
}  // namespace nbdkit
