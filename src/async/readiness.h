// SPDX-License-Identifier: BSD-3-Clause
// wait_ready(): a coroutine's way to wait for a descriptor.
#pragma once

#include <cstdint>

#include "async/loop.h"

namespace nbdkit {

// Nobody else watches `fd` meanwhile. Ends with operation_canceled when the gate closes first.
Task<void> wait_ready(Loop& loop, Gate& gate, int fd, std::uint32_t epoll_events);

}  // namespace nbdkit
