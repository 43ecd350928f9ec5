// SPDX-License-Identifier: BSD-3-Clause
// Children of a process that the kernel is not to kill when memory runs out: they are worth no more
// than the machine's others, but inherit oom_score_adj.
#pragma once

#include <sys/types.h>

namespace nbdkit {

// Of this process, from now on: of fork() by itself, of vfork() and posix_spawn() by the call
// below.
void make_children_ordinary();

// `child` of vfork() or posix_spawn(), or 0 in the child itself, which may have no memory of its
// own. Does nothing unless the above has been called.
void make_child_ordinary(pid_t child) noexcept;

}  // namespace nbdkit
