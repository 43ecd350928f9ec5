/* SPDX-License-Identifier: BSD-3-Clause */
/* The nbdkit release whose plugin interface these headers offer. */
#ifndef NBDKIT_VERSION_H
#define NBDKIT_VERSION_H

#define NBDKIT_VERSION_MAJOR 1
#define NBDKIT_VERSION_MINOR 48
#define NBDKIT_VERSION_MICRO 1
#define NBDKIT_VERSION_STRING "1.48.1"

#endif
