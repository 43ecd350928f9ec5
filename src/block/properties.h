// SPDX-License-Identifier: BSD-3-Clause
// What a device can do and what a layer promises.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace nbdkit {

// Sizes of requests that a device wants, in bytes; all 0: nothing is known, anything goes.
// minimum: power of 2, 1 to 64 KiB. preferred: power of 2, 512 to 32 MiB. maximum: a multiple of
// the minimum or 0xffffffff (no limit). minimum <= preferred <= maximum.
struct BlockSize {
  std::uint32_t minimum = 0;
  std::uint32_t preferred = 0;
  std::uint32_t maximum = 0;

  constexpr bool known() const { return preferred != 0; }
};

// Whether a plugin may say that. The Error has the words "block_size gave ...".
Result<void> check_block_size(const BlockSize& block);

// Of one open device. Found out once, when it is opened.
struct Properties {
  std::uint64_t size = 0;  // bytes, at most 2^63 - 1
  bool can_write = false;  // zero() is always served then, by writing where nothing better is there
  bool can_flush = false;
  bool can_fua = false;
  bool can_trim = false;
  bool can_fast_zero = false;  // zero() with fast_zero is fast or fails at once
  bool can_cache = false;
  bool can_extents = false;
  bool can_multi_conn = false;  // flush on one connection covers answered writes on all
  bool is_rotational = false;
  BlockSize block_size;
  std::string description;  // for the client's eyes
  // Which data this is (dev:ino, image id, ETag, UUID ...), to be compared when a server is
  // restarted; empty when there is no such thing.
  std::string identity;
};

// What of an answered write is left when the server process dies.
enum class Survives {
  nothing,  // what the process held is gone
  flushed,  // what was flushed, or written with FUA
  durable,  // everything
};

// Whether a filter keeps what can_multi_conn says below it.
enum class MultiConn { no, as_below };

// What a layer declares of itself, once configured. A stack is as weak as its weakest layer.
struct Contract {
  Survives survives = Survives::nothing;  // plugins; a filter says what it leaves of what is below
  bool shared_open = false;               // two handles at once are safe, as in an upgrade
  bool transparent = false;               // filters: does not change which bytes are where
  MultiConn multi_conn = MultiConn::no;   // filters
  bool swap_fit = false;                  // serves requests without allocating, forking, page cache
};

}  // namespace nbdkit
