// SPDX-License-Identifier: BSD-3-Clause
// ThreadModel: how many calls a plugin can bear at the same time.
#pragma once

#include <optional>
#include <string_view>

namespace nbdkit {

// The order and the numbers are those of nbdkit's interface.
enum class ThreadModel : int {
  serialize_connections = 0,   // one connection after the other
  serialize_all_requests = 1,  // one call at a time, of all connections
  serialize_requests = 2,      // one call at a time of each connection
  parallel = 3,
};

// As scripts and --dump-plugin write it: "serialize_connections" ...
std::string_view to_string(ThreadModel model);
std::optional<ThreadModel> parse_thread_model(std::string_view word);

}  // namespace nbdkit
