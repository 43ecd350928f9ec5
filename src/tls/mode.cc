// SPDX-License-Identifier: BSD-3-Clause
#include "tls/mode.h"

#include <fmt/format.h>
#include <strings.h>

#include <string>

#include "base/parse.h"

namespace nbdkit {

Result<TlsMode> parse_tls_mode(std::string_view text) {
  const std::string word(text);
  for (const char* one : {"require", "required", "force"}) {
    if (::strcasecmp(word.c_str(), one) == 0) return TlsMode::require;
  }
  Result<bool> on = parse_bool(text);
  if (!on.ok()) {
    return Error(std::errc::invalid_argument,
                 fmt::format("'{}' is none of off, on and require", text));
  }
  return on.value() ? TlsMode::on : TlsMode::off;
}

}  // namespace nbdkit
