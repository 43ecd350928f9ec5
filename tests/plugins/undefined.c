/* SPDX-License-Identifier: BSD-3-Clause */
/* undefined: a plugin that needs a function of a server that does not exist yet. */
#include <nbdkit-plugin.h>

extern int nbdkit_no_such_function(void);
NBDKIT_DLL_PUBLIC extern int (*const undefined_function)(void);
int (*const undefined_function)(void) = nbdkit_no_such_function;
