// SPDX-License-Identifier: BSD-3-Clause
// bounded_call(): what a function finds out, or nothing when that takes too long.
#pragma once

#include <functional>
#include <string>

#include "base/parse.h"
#include "base/result.h"

namespace nbdkit {

// Runs `find_out` in a process of its own, which is left behind when the kernel does not let it go.
// timed_out when it has not ended within `limit`; what it has found by then is lost. Of more than
// `size_max` bytes the rest is dropped. Only for a process with one thread.
Result<std::string> bounded_call(const std::function<std::string()>& find_out, Milliseconds limit,
                                 std::size_t size_max);

}  // namespace nbdkit
