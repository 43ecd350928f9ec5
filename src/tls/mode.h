// SPDX-License-Identifier: BSD-3-Clause
// TlsMode: whether there shall be TLS, as users write it for either side.
#pragma once

#include <string_view>

#include "base/result.h"

namespace nbdkit {

// on: when the other side wants or has it.
enum class TlsMode { off, on, require };

// What parse_bool() takes, or require, required or force; in small letters or capitals.
Result<TlsMode> parse_tls_mode(std::string_view text);

}  // namespace nbdkit
