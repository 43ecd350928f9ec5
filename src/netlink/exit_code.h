// SPDX-License-Identifier: BSD-3-Clause
// ExitCode: how nbdkit-attach ends, one code for each kind of failure (nbdkit-attach(8)).
//
// An Error finds its exit code by its std::errc alone, so every room below the program just returns
// Errors: netlink and attach make those that the user reads with attach_error().
#pragma once

#include <string>

#include "base/result.h"

namespace nbdkit {

enum class ExitCode : int {
  ok = 0,
  failure = 1,             // nothing below fits
  usage = 2,               // of the command line
  no_module = 3,           // no nbd driver in this kernel, or not seen from here
  not_permitted = 4,       // CAP_SYS_ADMIN in the initial user namespace is missing
  bad_descriptor = 5,      // a socket that the kernel cannot use
  busy = 6,                // the device is in use
  timeout = 7,             // a deadline passed
  server_failed = 8,       // the server ended, or said what cannot be
  invalid_value = 9,       // index, size or block size
  identity_mismatch = 10,  // the device or the data is another one
  not_attached = 11,       // no such device, or nothing is attached to it
  not_supported = 12,      // this kernel's driver cannot do that
};

// The std::errc that stands for `code`; io_error for failure.
std::errc errc_of(ExitCode code);

// `sentence` names what failed, on which object, why, and what to do; without a full stop.
inline Error attach_error(ExitCode code, std::string sentence) {
  return Error(errc_of(code), std::move(sentence));
}

ExitCode exit_code_of(const Error& error);

}  // namespace nbdkit
