// SPDX-License-Identifier: BSD-3-Clause
#include "base/result.h"

namespace nbdkit {

std::string Error::message() const {
  if (detail_) return *detail_;
  return std::make_error_code(code).message();
}

Error os_error(std::string_view what, int number) {
  // std::system_category, not strerror(): several threads may fail at once.
  std::string text(what);
  text += ": ";
  text += std::system_category().message(number);
  return Error(static_cast<std::errc>(number), std::move(text));
}

}  // namespace nbdkit
