// SPDX-License-Identifier: BSD-3-Clause
#include "base/unique_fd.h"

#include <fcntl.h>

namespace nbdkit {

Result<UniqueFd> UniqueFd::duplicate() const {
  int copy = ::fcntl(fd_, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) return os_error("duplicating a descriptor");
  return UniqueFd(copy);
}

}  // namespace nbdkit
