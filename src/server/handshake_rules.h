// SPDX-License-Identifier: BSD-3-Clause
// HandshakeRules: what the operator allows in the handshake of every client.
#pragma once

#include <cstdint>

#include "async/timers.h"
#include "proto/handshake.h"
#include "tls/credentials.h"

namespace nbdkit {

struct HandshakeRules {
  bool oldstyle = false;                             // the export "" without any negotiation
  std::uint16_t flags = kFixedNewstyle | kNoZeroes;  // of the greeting, those that are offered
  bool chunks = true;                                // structured replies and extended headers
  bool meta_contexts = true;
  TlsCredentials::Shared tls;  // null: TLS is refused
  bool tls_required = false;
  Nanoseconds limit{0};  // how long it may take; 0: for ever
};

}  // namespace nbdkit
