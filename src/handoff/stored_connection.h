// SPDX-License-Identifier: BSD-3-Clause
// StoredConnection: what the service manager keeps of a connection while no server runs: beside its
// socket a sealed memory file that says how to serve it on.
#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"
#include "handoff/verbs.h"
#include "server/server.h"

namespace nbdkit {

struct StoredConnection {
  HandoffServe serve;  // in transmission mode, with its state
  std::optional<uid_t> owner;
  std::string identity;  // of the data; empty: nobody knows
};

StoredConnection to_stored(const MovedConnection& moved, std::optional<uid_t> owner);

// The name, of the service manager's, that socket and file have in common.
std::string stored_name(ConnectionId id);
bool is_stored_name(std::string_view name);

// Sealed: nobody can change it any more.
Result<UniqueFd> write_stored(const StoredConnection& connection);
// The Error says what the file is instead.
Result<StoredConnection> read_stored(int file);

}  // namespace nbdkit
