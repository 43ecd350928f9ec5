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

std::errc from_nbd_error(std::uint32_t error) {
  switch (static_cast<NbdError>(error)) {
    case NbdError::not_permitted:
      return std::errc::operation_not_permitted;
    case NbdError::io:
      return std::errc::io_error;
    case NbdError::no_memory:
      return std::errc::not_enough_memory;
    case NbdError::no_space:
      return std::errc::no_space_on_device;
    case NbdError::overflow:
      return std::errc::value_too_large;
    case NbdError::not_supported:
      return std::errc::operation_not_supported;
    case NbdError::shutdown:
      return static_cast<std::errc>(ESHUTDOWN);
    case NbdError::none:
    case NbdError::invalid:
      break;
  }
  return std::errc::invalid_argument;
}

}  // namespace nbdkit
