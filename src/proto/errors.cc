// SPDX-License-Identifier: BSD-3-Clause
#include "proto/errors.h"

#include <cerrno>

namespace nbdkit {

NbdError to_nbd_error(std::errc code, ErrorAudience audience) {
  switch (static_cast<int>(code)) {
    case 0:
      return NbdError::none;
    case EPERM:
    case EROFS:
      return NbdError::not_permitted;
    case EIO:
      return NbdError::io;
    case ENOMEM:
      return NbdError::no_memory;
    case ENOSPC:
    case EFBIG:
    case EDQUOT:
      return NbdError::no_space;
    case ESHUTDOWN:
      return NbdError::shutdown;
    case EOPNOTSUPP:  // ENOTSUP is the same number.
      return audience == ErrorAudience::fast_zero ? NbdError::not_supported : NbdError::invalid;
    case EOVERFLOW:
      return audience == ErrorAudience::dont_fragment ? NbdError::overflow : NbdError::invalid;
    default:
      return NbdError::invalid;
  }
}

}  // namespace nbdkit
