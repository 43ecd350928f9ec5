/* SPDX-License-Identifier: BSD-3-Clause */
/* constructed: a plugin whose version tells how often its constructor ran in this process. */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>
#include <stdio.h>
#include <stdlib.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

NBDKIT_DLL_PUBLIC extern int constructed_times;
int constructed_times;

static char version[64];

__attribute__((__constructor__)) static void constructor(void) {
  const char* before = getenv("CONSTRUCTED_TIMES");
  constructed_times = before == NULL ? 1 : atoi(before) + 1;
  snprintf(version, sizeof version, "%d", constructed_times);
  /* Memory of the plugin would be new when it is loaded again. */
  setenv("CONSTRUCTED_TIMES", version, 1);
  snprintf(version, sizeof version, "constructed %d times", constructed_times);
}

static void* constructed_open(int readonly) {
  (void)readonly;
  return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t constructed_get_size(void* handle) {
  (void)handle;
  return 0;
}

static int constructed_pread(void* handle, void* buffer, uint32_t count, uint64_t offset,
                             uint32_t flags) {
  (void)handle;
  (void)buffer;
  (void)count;
  (void)offset;
  (void)flags;
  return -1;
}

static struct nbdkit_plugin plugin = {
    .name = "constructed",
    .version = version,
    .open = constructed_open,
    .get_size = constructed_get_size,
    .pread = constructed_pread,
};

NBDKIT_REGISTER_PLUGIN(plugin)
