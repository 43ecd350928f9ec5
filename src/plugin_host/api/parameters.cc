// SPDX-License-Identifier: BSD-3-Clause
// nbdkit_parse_*: what users write, as numbers.

#include <cmath>
#include <cstdlib>
#include <limits>
#include <type_traits>

#include "base/parse.h"
#include "plugin_host/api/caller.h"

namespace nbdkit {
namespace {

template <typename T>
int parse_number(const char* what, const char* text, T* result) {
  if (text == nullptr) return failed("{}: no number is given", what);
  auto parsed = [&] {
    if constexpr (std::is_signed_v<T>) {
      return parse_signed(text, std::numeric_limits<T>::min(), std::numeric_limits<T>::max());
    } else {
      return parse_unsigned(text, std::numeric_limits<T>::max());
    }
  }();
  if (!parsed.ok()) return failed("{}: {}", what, parsed.error().message());
  if (result != nullptr) *result = static_cast<T>(parsed.value());
  return 0;
}

// The digits of a number that is not negative, and where it ends; NAN when there is none.
double parse_real(const char* text, const char** end) {
  char* after = nullptr;
  double value = std::strtod(text, &after);
  *end = after;
  bool good = after != text && std::isfinite(value) && !std::signbit(value);
  return good ? value : std::nan("");
}

// "0.1", "10%", "1:10", "1/10".
double parse_fraction(const char* text) {
  const char* end = text;
  double value = parse_real(text, &end);
  if (*end == '%' && end[1] == '\0') return value / 100;
  if (*end == ':' || *end == '/') {
    double whole = parse_real(end + 1, &end);
    if (*end != '\0' || whole == 0) return std::nan("");
    return value / whole;
  }
  return *end == '\0' ? value : std::nan("");
}

}  // namespace
}  // namespace nbdkit

using namespace nbdkit;

extern "C" {

int64_t nbdkit_parse_size(const char* text) {
  Result<std::int64_t> size = parse_size(text);
  if (!size.ok()) return failed("{}", size.error().message());
  return size.value();
}

int nbdkit_parse_bool(const char* text) {
  Result<bool> value = parse_bool(text);
  if (!value.ok()) return failed("{}", value.error().message());
  return value.value() ? 1 : 0;
}

int nbdkit_parse_int(const char* what, const char* text, int* result) {
  return parse_number(what, text, result);
}
int nbdkit_parse_unsigned(const char* what, const char* text, unsigned* result) {
  return parse_number(what, text, result);
}
int nbdkit_parse_int8_t(const char* what, const char* text, int8_t* result) {
  return parse_number(what, text, result);
}
int nbdkit_parse_uint8_t(const char* what, const char* text, uint8_t* result) {
  return parse_number(what, text, result);
}
int nbdkit_parse_int16_t(const char* what, const char* text, int16_t* result) {
  return parse_number(what, text, result);
}
int nbdkit_parse_uint16_t(const char* what, const char* text, uint16_t* result) {
  return parse_number(what, text, result);
}
int nbdkit_parse_int32_t(const char* what, const char* text, int32_t* result) {
  return parse_number(what, text, result);
}
int nbdkit_parse_uint32_t(const char* what, const char* text, uint32_t* result) {
  return parse_number(what, text, result);
}
int nbdkit_parse_int64_t(const char* what, const char* text, int64_t* result) {
  return parse_number(what, text, result);
}
int nbdkit_parse_uint64_t(const char* what, const char* text, uint64_t* result) {
  return parse_number(what, text, result);
}

int nbdkit_parse_probability(const char* what, const char* text, double* result) {
  double value = parse_fraction(text);
  if (!(value >= 0 && value <= 1)) {
    return failed("{}: '{}' is no probability (try 0.1, 10%, 1:10)", what, text);
  }
  if (result != nullptr) *result = value;
  return 0;
}

int nbdkit_parse_delay(const char* what, const char* text, unsigned* seconds,
                       unsigned* nanoseconds) {
  Result<Nanoseconds> delay = parse_delay(text);
  if (!delay.ok()) return failed("{}: {}", what, delay.error().message());
  auto whole = std::chrono::duration_cast<Seconds>(delay.value());
  if (seconds != nullptr) *seconds = static_cast<unsigned>(whole.count());
  if (nanoseconds != nullptr) {
    *nanoseconds = static_cast<unsigned>((delay.value() - Nanoseconds(whole)).count());
  }
  return 0;
}

}  // extern "C"
