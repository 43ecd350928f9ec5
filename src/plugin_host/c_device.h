// SPDX-License-Identifier: BSD-3-Clause
// CDevice: one handle of a plugin in C as a BlockDevice, with everything added that the plugin
// leaves to the server.
#pragma once

#include <memory>

#include "block/device.h"
#include "plugin_host/c_connection.h"
#include "plugin_host/inline_rule.h"
#include "plugin_host/opening.h"

namespace nbdkit {

class CDevice final : public BlockDevice {
 public:
  // Counts are 32 bits wide in the C interface: longer requests go in several calls, each a
  // multiple of any block size.
  static constexpr std::uint64_t kCountMax = 0xffff0000;
  // Data is never given in larger pieces.
  static constexpr std::uint64_t kDataMax = 64 * 1024 * 1024;
  // What is read only to warm a cache, at a time.
  static constexpr std::uint64_t kScratchMax = 4 * 1024 * 1024;

  CDevice(std::unique_ptr<CConnection> connection, const CFunctions& functions,
          std::span<const std::byte> zeroes, Opened opened);

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

  Task<void> read_piece(std::uint64_t offset, std::uint64_t length, Reply& reply);
  Task<void> read_in_pieces(Request request, Reply& reply);

  std::unique_ptr<CConnection> connection_;  // Until it is closed.
  const CFunctions& functions_;
  const std::span<const std::byte> zeroes_;  // kDataMax of them
  void* const handle_;
  const bool can_zero_;
  const FuaMode fua_;
  const CacheMode cache_;
  InlineRule& reads_;
  InlineRule& writes_;
};

}  // namespace nbdkit
