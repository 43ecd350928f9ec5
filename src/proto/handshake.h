// SPDX-License-Identifier: BSD-3-Clause
// The fixed newstyle handshake on the wire (NBD protocol, "Newstyle negotiation").
#pragma once

#include <cstdint>

#include "proto/be.h"

namespace nbdkit {

inline constexpr std::uint64_t kGreetingMagic = 0x4e42444d41474943;  // "NBDMAGIC"
inline constexpr std::uint64_t kOptionMagic = 0x49484156454f5054;    // "IHAVEOPT"
inline constexpr std::uint64_t kOptionReplyMagic = 0x0003e889045565a9;

// Of the server, and the client's answer with the same bits.
inline constexpr std::uint16_t kFixedNewstyle = 1;
inline constexpr std::uint16_t kNoZeroes = 2;

enum class Option : std::uint32_t {
  export_name = 1,
  abort = 2,
  list = 3,
  starttls = 5,
  info = 6,
  go = 7,
  structured_reply = 8,
  list_meta_context = 9,
  set_meta_context = 10,
  extended_headers = 11,
};

enum class OptionReply : std::uint32_t {
  ack = 1,
  server = 2,
  info = 3,
  meta_context = 4,
  unsupported = 0x80000001,
  policy = 0x80000002,
  invalid = 0x80000003,
  platform = 0x80000004,
  tls_required = 0x80000005,
  unknown = 0x80000006,
  shutdown = 0x80000007,
  block_size_required = 0x80000008,
  too_big = 0x80000009,
  extended_headers_required = 0x8000000a,
};

enum class Info : std::uint16_t { export_ = 0, name = 1, description = 2, block_size = 3 };

struct GreetingWire {
  Be<std::uint64_t> magic{kGreetingMagic};
  Be<std::uint64_t> option_magic{kOptionMagic};
  Be<std::uint16_t> flags;
};
static_assert(sizeof(GreetingWire) == 18 && alignof(GreetingWire) == 1);

// All that an oldstyle server says before the transmission; zeroes follow, as after an export_name.
struct OldstyleGreetingWire {
  Be<std::uint64_t> magic{kGreetingMagic};
  Be<std::uint64_t> oldstyle_magic{std::uint64_t{0x00420281861253}};
  Be<std::uint64_t> size;
  Be<std::uint16_t> handshake_flags{std::uint16_t{0}};
  Be<std::uint16_t> flags;
};
static_assert(sizeof(OldstyleGreetingWire) == 28);

struct OptionWire {
  Be<std::uint64_t> magic;
  Be<Option> option;
  Be<std::uint32_t> length;
};
static_assert(sizeof(OptionWire) == 16);

struct OptionReplyWire {
  Be<std::uint64_t> magic{kOptionReplyMagic};
  Be<Option> option;
  Be<OptionReply> type;
  Be<std::uint32_t> length;
};
static_assert(sizeof(OptionReplyWire) == 20);

// The answer to export_name; 124 zeroes follow unless both sides said kNoZeroes.
struct ExportNameReplyWire {
  Be<std::uint64_t> size;
  Be<std::uint16_t> flags;
};
static_assert(sizeof(ExportNameReplyWire) == 10);
inline constexpr std::size_t kExportNameZeroes = 124;

struct InfoExportWire {
  Be<Info> type{Info::export_};
  Be<std::uint64_t> size;
  Be<std::uint16_t> flags;
};
static_assert(sizeof(InfoExportWire) == 12);

struct InfoBlockSizeWire {
  Be<Info> type{Info::block_size};
  Be<std::uint32_t> minimum;
  Be<std::uint32_t> preferred;
  Be<std::uint32_t> maximum;
};
static_assert(sizeof(InfoBlockSizeWire) == 14);

// What the export can do (NBD protocol, "Transmission flags").
namespace transmission_flag {
inline constexpr std::uint16_t kHasFlags = 1 << 0;
inline constexpr std::uint16_t kReadOnly = 1 << 1;
inline constexpr std::uint16_t kFlush = 1 << 2;
inline constexpr std::uint16_t kFua = 1 << 3;
inline constexpr std::uint16_t kRotational = 1 << 4;
inline constexpr std::uint16_t kTrim = 1 << 5;
inline constexpr std::uint16_t kWriteZeroes = 1 << 6;
inline constexpr std::uint16_t kDontFragment = 1 << 7;
inline constexpr std::uint16_t kMultiConn = 1 << 8;
inline constexpr std::uint16_t kCache = 1 << 10;
inline constexpr std::uint16_t kFastZero = 1 << 11;
}  // namespace transmission_flag

}  // namespace nbdkit
