// SPDX-License-Identifier: BSD-3-Clause
#include "base/parse.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <string>
#include <utility>

namespace nbdkit {
namespace {

Error invalid(std::string text) { return Error(std::errc::invalid_argument, std::move(text)); }

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

// log2 of what a suffix multiplies by, or -1.
int suffix_shift(char c) {
  switch (std::tolower(static_cast<unsigned char>(c))) {
    case 'b':
      return 0;
    case 's':
      return 9;
    case 'k':
      return 10;
    case 'm':
      return 20;
    case 'g':
      return 30;
    case 't':
      return 40;
    case 'p':
      return 50;
    case 'e':
      return 60;
    default:
      return -1;
  }
}

struct Magnitude {
  bool negative = false;
  std::uint64_t value = 0;
};

Result<Magnitude> parse_magnitude(std::string_view text) {
  std::string copy(text);
  const char* start = copy.c_str();
  while (std::isspace(static_cast<unsigned char>(*start))) ++start;
  Magnitude result;
  result.negative = *start == '-';
  if (*start == '-' || *start == '+') ++start;
  if (!std::isdigit(static_cast<unsigned char>(*start))) {
    return invalid(fmt::format("could not parse number: '{}'", text));
  }
  char* end = nullptr;
  errno = 0;
  result.value = std::strtoull(start, &end, 0);
  if (errno == ERANGE) {
    return Error(std::errc::result_out_of_range, fmt::format("number is too large: '{}'", text));
  }
  if (end != copy.c_str() + copy.size()) {
    return invalid(fmt::format("trailing garbage after number: '{}'", text));
  }
  return result;
}

}  // namespace

Result<std::int64_t> parse_size(std::string_view text) {
  constexpr std::uint64_t kSizeMax = std::numeric_limits<std::int64_t>::max();
  std::uint64_t n = 0;
  std::size_t i = 0;
  for (; i < text.size() && text[i] >= '0' && text[i] <= '9'; ++i) {
    std::uint64_t digit = static_cast<std::uint64_t>(text[i] - '0');
    if (n > (kSizeMax - digit) / 10) return invalid(fmt::format("size is too large: '{}'", text));
    n = n * 10 + digit;
  }
  if (i == 0) return invalid(fmt::format("could not parse size: '{}'", text));
  int shift = 0;
  if (i < text.size()) {
    shift = suffix_shift(text[i]);
    if (shift < 0 || i + 1 != text.size()) {
      return invalid(fmt::format("could not parse size: trailing garbage in '{}'", text));
    }
  }
  if (n > (kSizeMax >> shift)) return invalid(fmt::format("size is too large: '{}'", text));
  return static_cast<std::int64_t>(n << shift);
}

Result<bool> parse_bool(std::string_view text) {
  constexpr std::array<std::string_view, 6> kTrue{"1", "true", "t", "yes", "y", "on"};
  constexpr std::array<std::string_view, 6> kFalse{"0", "false", "f", "no", "n", "off"};
  std::string word = lower(text);
  if (std::find(kTrue.begin(), kTrue.end(), word) != kTrue.end()) return true;
  if (std::find(kFalse.begin(), kFalse.end(), word) != kFalse.end()) return false;
  return invalid(fmt::format("could not decipher boolean: '{}'", text));
}

Result<std::int64_t> parse_signed(std::string_view text, std::int64_t min, std::int64_t max) {
  Result<Magnitude> magnitude = parse_magnitude(text);
  if (!magnitude.ok()) return std::move(magnitude).error();
  auto [negative, value] = magnitude.value();
  constexpr std::uint64_t kMagnitudeMax = std::uint64_t{1} << 63;
  bool fits = negative ? value <= kMagnitudeMax : value < kMagnitudeMax;
  std::int64_t n = static_cast<std::int64_t>(negative ? 0 - value : value);
  if (!fits || n < min || n > max) {
    return Error(std::errc::result_out_of_range,
                 fmt::format("number is out of range ({}..{}): '{}'", min, max, text));
  }
  return n;
}

Result<std::uint64_t> parse_unsigned(std::string_view text, std::uint64_t max) {
  Result<Magnitude> magnitude = parse_magnitude(text);
  if (!magnitude.ok()) return std::move(magnitude).error();
  auto [negative, value] = magnitude.value();
  if (negative) return invalid(fmt::format("negative numbers are not allowed: '{}'", text));
  if (value > max) {
    return Error(std::errc::result_out_of_range,
                 fmt::format("number is out of range (0..{}): '{}'", max, text));
  }
  return value;
}

Result<Nanoseconds> parse_delay(std::string_view text) {
  constexpr std::array<std::pair<std::string_view, double>, 4> kUnits{
      {{"ms", 1e6}, {"us", 1e3}, {"ns", 1}, {"s", 1e9}}};
  std::string_view digits = text;
  double scale = 1e9;
  for (const auto& [unit, nanoseconds] : kUnits) {
    if (!digits.ends_with(unit)) continue;
    digits.remove_suffix(unit.size());
    scale = nanoseconds;
    break;
  }
  bool plain = !digits.empty() && digits.find_first_not_of("0123456789.") == std::string_view::npos;
  if (!plain) {
    return invalid(fmt::format("could not parse delay: '{}' (try 2, 1.5s, 100ms, 10us)", text));
  }
  std::string copy(digits);
  char* end = nullptr;
  double amount = std::strtod(copy.c_str(), &end) * scale;
  if (end != copy.c_str() + copy.size()) {
    return invalid(fmt::format("could not parse delay: '{}' (try 2, 1.5s, 100ms, 10us)", text));
  }
  constexpr double kDelayMax = 4e9 * 1e9;  // Seconds are a 32-bit number for plugins in C.
  if (amount > kDelayMax) return invalid(fmt::format("delay is too long: '{}'", text));
  return Nanoseconds(static_cast<std::int64_t>(std::llround(amount)));
}

}  // namespace nbdkit
