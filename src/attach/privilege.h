// SPDX-License-Identifier: BSD-3-Clause
// Whether this process may attach devices at all.
#pragma once

#include "base/result.h"

namespace nbdkit {

// not_permitted when CAP_SYS_ADMIN is missing. Having it in a user namespace is not enough: only
// the kernel's own answer tells that.
Result<void> check_may_attach();

}  // namespace nbdkit
