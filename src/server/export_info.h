// SPDX-License-Identifier: BSD-3-Clause
// ExportInfo: what a client is told about an export before it may use it.
#pragma once

#include <cstdint>
#include <string>

#include "block/properties.h"

namespace nbdkit {

inline constexpr std::uint32_t kPayloadMax = 64 * 1024 * 1024;  // bytes of one read or write

struct ExportInfo {
  std::uint64_t size = 0;
  std::uint16_t transmission_flags = 0;  // NBD protocol, "Transmission flags"
  BlockSize block_size;
  std::string description;
  std::string identity;
};

// Only what the device can do is announced; don't-fragment belongs to structured replies.
ExportInfo export_info(const Properties& properties, bool read_only, bool structured_replies);

}  // namespace nbdkit
