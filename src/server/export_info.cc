// SPDX-License-Identifier: BSD-3-Clause
#include "server/export_info.h"

#include "proto/handshake.h"

namespace nbdkit {

ExportInfo export_info(const Properties& properties, bool read_only, bool structured_replies) {
  using namespace transmission_flag;
  std::uint16_t flags = kHasFlags;
  auto announce = [&](bool can, std::uint16_t flag) {
    if (can) flags = static_cast<std::uint16_t>(flags | flag);
  };
  bool can_write = properties.can_write && !read_only;
  announce(!can_write, kReadOnly);
  announce(can_write, kWriteZeroes);
  announce(can_write && properties.can_trim, kTrim);
  announce(can_write && properties.can_fua, kFua);
  announce(can_write && properties.can_fast_zero, kFastZero);
  announce(properties.can_flush, kFlush);
  announce(properties.is_rotational, kRotational);
  announce(properties.can_multi_conn, kMultiConn);
  announce(properties.can_cache, kCache);
  announce(structured_replies, kDontFragment);
  return {properties.size, flags, properties.block_size, properties.description,
          properties.identity};
}

}  // namespace nbdkit
