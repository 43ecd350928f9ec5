// SPDX-License-Identifier: BSD-3-Clause
// Agreement: what a handshake has agreed on, and what a connection takes along when it moves.
#pragma once

#include "block/properties.h"
#include "proto/meta_contexts.h"

namespace nbdkit {

struct Agreement {
  bool structured_replies = false;
  bool extended_headers = false;  // only with structured_replies
  MetaContextSet contexts;        // only with structured_replies
  // What a client has been told that has asked for it, and keeps to; unknown for all others. It
  // stays so when the connection moves, whatever the export there prefers.
  BlockSize block_size;
  bool read_only = false;
};

}  // namespace nbdkit
