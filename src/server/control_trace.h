// SPDX-License-Identifier: BSD-3-Clause
// Debug messages about what the layers are asked for a client, but for its requests.
#pragma once

#include <string>
#include <string_view>

#include "block/context.h"

namespace nbdkit {

// `who` is the connection's name, PLUGIN.NUMBER.
void trace_control(const Context& context, std::string_view who, std::string_view question);
void trace_open(const Context& context, std::string_view who);

}  // namespace nbdkit
