// SPDX-License-Identifier: BSD-3-Clause
// ScriptDevice: one handle of a script as a BlockDevice, with what the script leaves to the server.
#pragma once

#include <memory>

#include "block/device.h"
#include "script/opening.h"
#include "script/script_connection.h"

namespace nbdkit {

class ScriptDevice final : public BlockDevice {
 public:
  // Data is never given to a script, or taken from it, in larger pieces.
  static constexpr std::uint64_t kDataMax = 64 * 1024 * 1024;
  // Zeroes that are written because the script does not zero, at a time, and what is read only to
  // warm a cache.
  static constexpr std::uint64_t kScratchMax = 4 * 1024 * 1024;
  // Other requests are split like this: scripts may compute with 32 bits.
  static constexpr std::uint64_t kCountMax = 0xffff0000;

  ScriptDevice(std::unique_ptr<ScriptConnection> connection, ScriptHandle opened);

  Task<void> pread(Request request, Reply& reply) override;
  Task<void> pwrite(Request request, Payload& payload) override;
  Task<void> flush() override;
  Task<void> trim(Request request) override;
  Task<void> zero(Request request) override;
  Task<void> cache(Request request) override;
  Task<void> extents(Request request, Extents& extents) override;
  Task<void> close() override;

 private:
  class Calls;

  Task<void> read_in_pieces(Request request, Reply& reply);

  std::unique_ptr<ScriptConnection> connection_;  // Until it is closed.
  const std::string handle_;
  const bool can_zero_;
  const ScriptMode fua_;
  const ScriptMode cache_;
};

}  // namespace nbdkit
