// SPDX-License-Identifier: BSD-3-Clause
// Channel: exact reads and writes on a connection, for the handshake.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "async/loop.h"
#include "async/stream.h"

namespace nbdkit {

// On its connection's loop; at most one read or write at a time.
class Channel final {
 public:
  // All of it outlives the channel. Never reads more than it is asked for, so that the next one to
  // read from the stream misses nothing.
  Channel(Loop& loop, Gate& gate, ByteStream& stream)
      : loop_(loop), gate_(gate), stream_(&stream) {}

  // Goes on with another stream, while nothing is read or written.
  void use(ByteStream& stream) { stream_ = &stream; }

  // connection_reset when the stream ends before; operation_canceled when the gate closes.
  Task<void> read(std::span<std::byte> into);
  Task<void> write(std::span<const std::byte> from);
  // Reads and forgets.
  Task<void> skip(std::uint64_t length);

  template <typename Wire>
  Task<void> read_wire(Wire& wire) {
    return read(std::as_writable_bytes(std::span(&wire, 1)));
  }

 private:
  Loop& loop_;
  Gate& gate_;
  ByteStream* stream_;
};

}  // namespace nbdkit
