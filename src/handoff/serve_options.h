// SPDX-License-Identifier: BSD-3-Clause
// From a serve request to what the server is asked to do.
#pragma once

#include <sys/types.h>

#include <optional>

#include "base/result.h"
#include "handoff/verbs.h"
#include "server/server.h"

namespace nbdkit {

// All but `accept`.
StartOptions start_options(const HandoffServe& serve, std::optional<uid_t> owner);

// That the export is what the giver of the socket counts on: invalid_argument says how it differs.
Result<void> check_expectation(const HandoffServe& serve, const ExportInfo& info);

}  // namespace nbdkit
