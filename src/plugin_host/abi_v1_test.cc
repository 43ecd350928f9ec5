// SPDX-License-Identifier: BSD-3-Clause
// The layout that plugin binaries were built for, as version 1 of the interface names it. A program
// of its own would be needed to run this, because one program knows the struct only once; checking
// it while compiling is enough.

#undef NBDKIT_API_VERSION
#define nbdkit_plugin nbdkit_plugin_v1
#define plugin_init plugin_init_v1
#include <nbdkit-plugin.h>

#include <cstddef>

#define AT(field, offset) static_assert(offsetof(nbdkit_plugin_v1, field) == (offset))

static_assert(NBDKIT_API_VERSION == 1);
static_assert(sizeof(nbdkit_plugin_v1) == 384);
AT(pread, 144);
AT(pwrite, 152);
AT(flush, 160);
AT(trim, 168);
AT(zero, 176);
AT(errno_is_preserved, 184);
AT(can_fua, 208);
AT(_pread_v2, 216);
AT(_zero_v2, 248);
AT(magic_config_key, 256);
AT(extents, 280);
AT(block_size, 376);
