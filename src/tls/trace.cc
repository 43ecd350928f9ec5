// SPDX-License-Identifier: BSD-3-Clause
#include "tls/trace.h"

#include <gnutls/gnutls.h>

namespace nbdkit {
namespace {

// The function that GnuTLS calls has no argument that could lead here.
constinit Log* gnutls_log = nullptr;

}  // namespace

void trace_gnutls(int level, Log& log) {
  gnutls_log = &log;
  ::gnutls_global_set_log_level(level);
  ::gnutls_global_set_log_function(
      [](int, const char* text) { gnutls_log->debug("", "gnutls: {}", text); });
}

}  // namespace nbdkit
