// SPDX-License-Identifier: BSD-3-Clause
// One handoff message: framing, JSON body and at most one descriptor (docs/handoff-protocol.md).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "base/unique_fd.h"

namespace nbdkit {

enum class HandoffKind : std::uint16_t { request = 1, answer = 2, error = 3, event = 4 };

struct HandoffMessage {
  HandoffKind kind = HandoffKind::request;
  std::uint64_t sequence = 0;
  Json body;
  UniqueFd descriptor;  // its own, or invalid
};

// A packet as it came out of the socket, whatever it holds.
struct HandoffPacket {
  std::vector<std::byte> bytes;
  bool truncated = false;          // longer than a message may be
  bool control_truncated = false;  // MSG_CTRUNC: descriptors are missing
  std::vector<UniqueFd> descriptors;
};

// Sends one packet and never raises SIGPIPE. resource_unavailable_try_again when the socket is
// full, message_size when the message is too long; the descriptor stays the caller's.
Result<void> send_handoff(int socket, HandoffKind kind, std::uint64_t sequence, const Json& body,
                          int descriptor = -1);

// Never blocks. resource_unavailable_try_again when nothing is there, connection_reset when the
// other end is gone. What it receives is close-on-exec.
Result<HandoffPacket> receive_handoff(int socket);

// What a bad packet is answered with; its names are part of the protocol.
enum class HandoffFault {
  bad_message,
  unsupported_version,
  unknown_verb,
  unknown_key,
  bad_value,
  no_descriptor,
  unexpected_descriptor,
  bad_descriptor,
  forbidden,
  no_such_export,
  no_such_connection,
  not_movable,
  mismatch,
  limit,
  timeout,
  failed,
};
std::string_view fault_name(HandoffFault fault);

struct HandoffProblem {
  HandoffFault fault;
  std::string sentence;
};

// Takes the packet apart. On a problem the packet keeps its descriptors: closing one that is not a
// socket may block, and the caller knows where to do that. `sequence` is set as soon as the packet
// has one, so that a problem can be answered.
std::variant<HandoffMessage, HandoffProblem> parse_handoff(HandoffPacket& packet,
                                                           std::uint64_t& sequence);

}  // namespace nbdkit
