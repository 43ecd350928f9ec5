// SPDX-License-Identifier: BSD-3-Clause
#include "base/result.h"

#include <cstring>

namespace nbdkit {

std::string Error::message() const {
  if (!detail().empty()) return std::string(detail());
  return std::make_error_code(code).message();
}

// Neither strerror(), as several threads may fail at once, nor what makes a string.
std::string_view os_words(int number) {
  const char* words = ::strerrordesc_np(number);
  return words != nullptr ? words : "Unknown error";
}

Error os_error(std::string_view what, int number) {
  return format_error(static_cast<std::errc>(number), "{}: {}", what, os_words(number));
}

}  // namespace nbdkit
