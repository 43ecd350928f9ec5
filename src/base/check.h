// SPDX-License-Identifier: BSD-3-Clause
// NBDKIT_CHECK: for what only a bug of this program can break. On in release builds too.
#pragma once

namespace nbdkit {

[[noreturn]] void check_failed(const char* condition, const char* file, int line) noexcept;

}  // namespace nbdkit

#define NBDKIT_CHECK(condition)                               \
  do {                                                        \
    if (!(condition)) [[unlikely]]                            \
      ::nbdkit::check_failed(#condition, __FILE__, __LINE__); \
  } while (0)
