/* SPDX-License-Identifier: BSD-3-Clause */
/* example-c: the smallest plugin that can be written to, in C99. */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>
#include <string.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_SERIALIZE_ALL_REQUESTS

static char disk[4096];

static void* example_open(int readonly) {
  (void)readonly;
  return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t example_get_size(void* handle) {
  (void)handle;
  return sizeof disk;
}

static int example_pread(void* handle, void* buffer, uint32_t count, uint64_t offset,
                         uint32_t flags) {
  (void)handle;
  (void)flags;
  memcpy(buffer, disk + offset, count);
  return 0;
}

static int example_pwrite(void* handle, const void* buffer, uint32_t count, uint64_t offset,
                          uint32_t flags) {
  (void)handle;
  (void)flags;
  memcpy(disk + offset, buffer, count);
  return 0;
}

static struct nbdkit_plugin plugin = {
    .name = "example-c",
    .version = NBDKIT_VERSION_STRING,
    .open = example_open,
    .get_size = example_get_size,
    .pread = example_pread,
    .pwrite = example_pwrite,
};

NBDKIT_REGISTER_PLUGIN(plugin)
