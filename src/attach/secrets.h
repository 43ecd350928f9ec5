// SPDX-License-Identifier: BSD-3-Clause
// What must not be seen in a text that leaves the machine.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "attach/options.h"

namespace nbdkit {

// Everything that may be a secret in the parameters and variables: values, each once.
std::vector<std::string> secrets_of(const AttachOptions& options);

// `text` with asterisks in the place of each of `known`, of what follows a key that is one of a
// secret (password=...), and of passwords in URLs. What moves a terminal's cursor is gone, too.
std::string mask_secrets(std::string_view text, const std::vector<std::string>& known);

}  // namespace nbdkit
