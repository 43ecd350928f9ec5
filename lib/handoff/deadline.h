/* SPDX-License-Identifier: BSD-3-Clause */
/* Points in time that no call waits beyond. */
#ifndef NBDKIT_HANDOFF_DEADLINE_H
#define NBDKIT_HANDOFF_DEADLINE_H

#include <stdint.h>
#include <time.h>

/* What NBDKIT_HANDOFF_TIMEOUT_DEFAULT, or any other negative number, means. */
int nh_timeout_ms(int timeout_ms);
/* CLOCK_MONOTONIC, as pthread_cond_timedwait() wants it. */
struct timespec nh_deadline(int timeout_ms);
/* For poll(): rounded up, 0 when it is over. */
int nh_left_ms(const struct timespec* deadline);

#endif
