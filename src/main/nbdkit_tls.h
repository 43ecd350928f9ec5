// SPDX-License-Identifier: BSD-3-Clause
// --tls and the options whose names begin so.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "base/log.h"
#include "tls/credentials.h"
#include "tls/mode.h"

namespace nbdkit {

struct TlsOptions {
  std::optional<TlsMode> mode;  // nothing was said: with certificates clients may use it
  // As they were given.
  std::string certificates;
  std::string psk_file;
  std::string priority;
  bool verify_peer = false;

  // Takes the argument of --tls. An Error is the line for the user.
  Result<void> set_mode(std::string_view text);
  bool required() const { return mode == TlsMode::require; }
};

// Null when there is to be no TLS. Without certificates that is a warning with --tls=on, and an
// Error with --tls=require; those that are there and not usable always are an Error.
Result<TlsCredentials::Shared> load_credentials(const TlsOptions& options, Log& log);

}  // namespace nbdkit
