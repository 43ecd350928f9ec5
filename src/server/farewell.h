// SPDX-License-Identifier: BSD-3-Clause
// Farewell: tells a client that what it has asked for meanwhile is not done any more.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "async/stream.h"
#include "server/agreement.h"

namespace nbdkit {

inline constexpr std::string_view kEnding = "the server ends this connection";
inline constexpr std::size_t kFarewellBytesMax = 1024 * 1024;  // that are looked at

// Looks once at what has arrived, answers requests ESHUTDOWN without waiting, and gives up at
// whatever is in the way: the connection is closed next in any case. `unread` has been received
// already. Never for a connection that somebody else goes on serving: what has arrived is for him.
void refuse_requests(ByteStream& stream, const Agreement& agreement,
                     std::span<const std::byte> unread);

}  // namespace nbdkit
