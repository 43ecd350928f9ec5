// SPDX-License-Identifier: BSD-3-Clause
// Errors of GnuTLS as ours. Private to this room.
#pragma once

#include <fmt/format.h>
#include <gnutls/gnutls.h>

#include <string_view>

#include "base/result.h"

namespace nbdkit {

inline Error gnutls_error(std::string_view what, int code) {
  return Error(std::errc::protocol_error, fmt::format("{}: {}", what, ::gnutls_strerror(code)));
}

}  // namespace nbdkit
