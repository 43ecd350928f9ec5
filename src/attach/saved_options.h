// SPDX-License-Identifier: BSD-3-Clause
// What a device was attached with, kept for a keeper to come.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "attach/options.h"
#include "base/json.h"
#include "base/unique_fd.h"

namespace nbdkit {

struct SavedOptions {
  AttachOptions options;
  // Parameters and variables that are secrets, and missing: names.
  std::vector<std::string> missing_parameters;
  std::vector<std::string> missing_variables;
};

// Arguments, environment and the rest; of any bytes.
std::string save_options(const AttachOptions& options);
// The same, for a file: without what may be a secret.
std::string save_options_without_secrets(const AttachOptions& options);

// What `given` wants to be other than `kept`, in words; empty: nothing. Environment, umask and
// surroundings are not looked at, and neither is the device.
std::string_view first_difference(const AttachOptions& kept, const AttachOptions& given);

// Of a text that only root can have written; protocol_error when it is none of these.
Result<SavedOptions> parse_saved_options(std::string_view text);

// A memfd that nobody can change any more.
Result<UniqueFd> seal(std::string_view text);
// invalid_argument when it is not sealed, or not root's.
Result<std::string> read_sealed(int fd);

}  // namespace nbdkit
