// SPDX-License-Identifier: BSD-3-Clause
// Numbers, sizes, times and truth values as a user writes them on the command line
// (nbdkit-compat.md: nbdkit_parse_size, _bool, _int and _delay follow exactly these rules).
#pragma once

#include <chrono>
#include <cstdint>
#include <string_view>

#include "base/result.h"

namespace nbdkit {

using Nanoseconds = std::chrono::nanoseconds;
using Milliseconds = std::chrono::milliseconds;
using Seconds = std::chrono::seconds;

// Every error's detail is a whole sentence that quotes `text`.

// Bytes: decimal digits and at most one of b k m g t p e (powers of 1024) or s (512), any case.
// 0 to 2^63 - 1.
Result<std::int64_t> parse_size(std::string_view text);

// 1 true t yes y on, 0 false f no n off, any case.
Result<bool> parse_bool(std::string_view text);

// As strtol with base 0 (0x.. hexadecimal, 0.. octal), the whole text, within the given limits.
Result<std::int64_t> parse_signed(std::string_view text, std::int64_t min, std::int64_t max);
// A leading '-' is refused, not wrapped.
Result<std::uint64_t> parse_unsigned(std::string_view text, std::uint64_t max);

// "1.2s" "120ms" "1us" "1ns", bare numbers are seconds; not negative.
Result<Nanoseconds> parse_delay(std::string_view text);

}  // namespace nbdkit
