// SPDX-License-Identifier: BSD-3-Clause
// Connects to an address.
#pragma once

#include "async/loop.h"
#include "base/unique_fd.h"
#include "client/remote_address.h"

namespace nbdkit {

// Every address that a name has is tried in turn; the Error is that of the last one. Ends with
// operation_canceled when the gate closes. All that is given outlives the Task.
Task<UniqueFd> dial(Loop& loop, Gate& gate, const RemoteAddress& address);

}  // namespace nbdkit
