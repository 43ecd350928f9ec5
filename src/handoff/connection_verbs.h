// SPDX-License-Identifier: BSD-3-Clause
// The verbs about connections that are there (list, close, take-over), and the events, as values.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/parse.h"
#include "base/result.h"
#include "base/unique_fd.h"
#include "handoff/verbs.h"
#include "server/server.h"

namespace nbdkit {

struct HandoffList {
  static constexpr std::size_t kConnectionsMax = 128;  // in one answer
  ConnectionId after = 0;
};

struct HandoffClose {
  ConnectionId id = 0;
  bool drain = true;
};

struct HandoffTakeOver {
  static constexpr Milliseconds kLimitDefault{10'000};
  static constexpr Milliseconds kLimitMax{60'000};
  ConnectionId id = 0;
  Milliseconds limit = kLimitDefault;
};

// invalid_argument names the key that is wrong, not_supported the one that is not known.
Result<HandoffList> parse_list(const Json& body);
Result<HandoffClose> parse_close(const Json& body);
Result<HandoffTakeOver> parse_take_over(const Json& body);
Result<ConnectionId> parse_go_on(const Json& body);
Result<void> parse_subscribe(const Json& body);

Json to_json(const ConnectionView& connection);
// All of the answer but the descriptor.
Json to_json(ConnectionId id, const MovedConnection& moved);

// What answers to list and take-over say; protocol_error when something is missing or wrong.
struct HandoffListed {
  ConnectionId id = 0;
  bool kernel = false;
  bool transmitting = false;  // neither in its handshake, held nor ending
  std::optional<std::uint64_t> cookie;
};
struct HandoffMoved {
  UniqueFd socket;  // comes beside the answer
  std::string export_name;
  std::uint64_t size = 0;
  std::uint16_t flags = 0;
  HandoffState state;
};
Result<std::vector<HandoffListed>> parse_listed(const Json& body);
Result<HandoffMoved> parse_moved(const Json& body);

Json began_event(const ConnectionView& connection);
Json ended_event(ConnectionId id, ConnectionEnd end);
Json missed_event(std::uint64_t count);
Json stopping_event();

}  // namespace nbdkit
