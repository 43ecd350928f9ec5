// SPDX-License-Identifier: BSD-3-Clause
// Agreement: what a handshake has agreed on, and what a connection takes along when it moves.
#pragma once

#include "proto/meta_contexts.h"

namespace nbdkit {

struct Agreement {
  bool structured_replies = false;
  bool extended_headers = false;  // only with structured_replies
  MetaContextSet contexts;        // only with structured_replies
  // The client has asked for the block sizes of the export, and keeps to them. Lost when the
  // connection moves: it is then served as one that has not asked.
  bool block_sizes = false;
  bool read_only = false;
};

}  // namespace nbdkit
