// SPDX-License-Identifier: BSD-3-Clause
// What all requests of strangers have in common: the Errors of wrong and unknown keys.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string_view>

#include "base/json.h"
#include "base/result.h"

namespace nbdkit {

// invalid_argument, "KEY: must be EXPECTED".
Error bad_value(std::string_view key, std::string_view expected);
// not_supported names the first key of the object that is none of these.
Result<void> only_keys(const Json& body, std::initializer_list<std::string_view> known);
// A number between the two, or `otherwise` when the key is not there; none: it must be.
Result<std::uint64_t> number_key(const Json& body, std::string_view key, std::uint64_t min,
                                 std::uint64_t max, std::optional<std::uint64_t> otherwise);
Result<bool> bool_key(const Json& body, std::string_view key, bool otherwise);

}  // namespace nbdkit
