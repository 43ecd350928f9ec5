// SPDX-License-Identifier: BSD-3-Clause
// The verbs of the handoff protocol as values: what a request asks and what an answer says.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "block/properties.h"
#include "server/agreement.h"

namespace nbdkit {

struct HandoffQuery {
  std::string export_name;
  bool kernel = false;  // "peer":"kernel"
};

// Where another server has stopped serving a socket (take-over).
struct HandoffState {
  Agreement agreement;            // all but read_only, which is the export's
  std::vector<std::byte> unread;  // at most Transmission::kUnreadMax bytes
};

struct HandoffServe {
  enum class Mode { transmission, handshake };
  Mode mode = Mode::transmission;
  std::string export_name;
  bool kernel = false;
  // What the giver counts on; the server refuses when the export is another.
  std::optional<std::uint64_t> size;
  std::optional<std::uint16_t> flags;
  std::optional<HandoffState> state;  // transmission only
  bool insecure = false;              // without TLS although the server requires it
  bool hold = false;                  // transmission only: the export is opened, no more
};

// What both answers say about an export.
struct HandoffExport {
  std::uint64_t size = 0;  // bytes, at most 2^63 - 1
  std::uint16_t transmission_flags = 0;
  BlockSize block_size;
  std::uint32_t maximum_payload = 0;
  bool multi_conn = false;
  std::string identity;
  std::string description;
  // query only
  Survives survives = Survives::nothing;
  bool shared_open = false;
  bool swap_fit = false;
  Json guards;  // of a server with --swap: what guards it against a lack of memory; null: nothing
  std::string mapping;  // by which filters, and how, other bytes are where; "": none

  bool read_only() const { return (transmission_flags & 2) != 0; }
};

struct HandoffServed {
  std::uint64_t id = 0;  // of the connection
  // Absent in handshake mode: the client names the export itself then.
  std::optional<HandoffExport> info;
};

Json to_json(const HandoffQuery& query);
Json to_json(const HandoffServe& serve);
Json to_json(const HandoffState& state);
Json to_json(const HandoffExport& info);
Json to_json(const HandoffServed& served);

// Requests come from strangers: invalid_argument names the key that is wrong, not_supported the
// one that is not known.
Result<HandoffQuery> parse_query(const Json& body);
Result<HandoffServe> parse_serve(const Json& body);
// Its "state", which also the answer to take-over has.
Result<HandoffState> parse_state(const Json& body);

// Answers of a server that is not trusted: protocol_error when something is missing, has another
// type or is out of range. Keys that are not known are left alone.
Result<HandoffExport> parse_export(const Json& body);
Result<HandoffServed> parse_served(const Json& body, HandoffServe::Mode mode);

}  // namespace nbdkit
