// SPDX-License-Identifier: BSD-3-Clause
// The verb figures as values: what a server has been asked for, and how long that took.
#pragma once

#include <optional>

#include "base/json.h"
#include "base/result.h"
#include "block/request_figures.h"

namespace nbdkit {

struct HandoffFigures {
  std::optional<bool> kernel;  // only of these connections, or of the others
};

Json to_json(const HandoffFigures& asked);
Json to_json(const RequestFigures& figures);

// invalid_argument names the key that is wrong, not_supported the one that is not known.
Result<HandoffFigures> parse_figures_request(const Json& body);
// Of a server that is not trusted: protocol_error when something is missing or wrong.
Result<RequestFigures> parse_figures(const Json& body);

}  // namespace nbdkit
