// SPDX-License-Identifier: BSD-3-Clause
#include "tls/trace.h"

#include <gnutls/gnutls.h>

#include <cstdio>

namespace nbdkit {

void trace_gnutls(int level) {
  ::gnutls_global_set_log_level(level);
  // The text has an end of line.
  ::gnutls_global_set_log_function(
      [](int, const char* text) { std::fprintf(stderr, "nbdkit: debug: gnutls: %s", text); });
}

}  // namespace nbdkit
