// SPDX-License-Identifier: BSD-3-Clause
#include "handoff/request_keys.h"

#include <fmt/format.h>

#include <algorithm>

namespace nbdkit {

Error bad_value(std::string_view key, std::string_view expected) {
  return Error(std::errc::invalid_argument, fmt::format("{}: must be {}", key, expected));
}

Result<void> only_keys(const Json& body, std::initializer_list<std::string_view> known) {
  for (const Json::Member& member : *body.as_object()) {
    if (std::find(known.begin(), known.end(), member.name) == known.end()) {
      return Error(std::errc::not_supported, fmt::format("{}: no such key", member.name));
    }
  }
  return {};
}

Result<std::uint64_t> number_key(const Json& body, std::string_view key, std::uint64_t min,
                                 std::uint64_t max, std::optional<std::uint64_t> otherwise) {
  const Json* value = body.find(key);
  if (value == nullptr && otherwise) return *otherwise;
  std::optional<std::uint64_t> number = value != nullptr ? value->as_unsigned() : std::nullopt;
  if (!number || *number < min || *number > max) {
    return bad_value(key, fmt::format("a number from {} to {}", min, max));
  }
  return *number;
}

Result<bool> bool_key(const Json& body, std::string_view key, bool otherwise) {
  const Json* value = body.find(key);
  if (value == nullptr) return otherwise;
  std::optional<bool> is = value->as_bool();
  if (!is) return bad_value(key, "true or false");
  return *is;
}

}  // namespace nbdkit
