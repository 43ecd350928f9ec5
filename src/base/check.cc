// SPDX-License-Identifier: BSD-3-Clause
#include "base/check.h"

#include <cstdio>
#include <cstdlib>

namespace nbdkit {

void check_failed(const char* condition, const char* file, int line) noexcept {
  std::fprintf(stderr, "nbdkit: bug: %s:%d: %s does not hold; please report this\n", file, line,
               condition);
  std::abort();
}

}  // namespace nbdkit
