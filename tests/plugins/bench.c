/* SPDX-License-Identifier: BSD-3-Clause */
/* bench: a plugin binary whose calls take a given time, for tools/bench: size=BYTES delay-us=N. */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>
#include <string.h>
#include <time.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

static int64_t size = 1 << 20;
static unsigned delay_us;

static int bench_config(const char* key, const char* value) {
  if (strcmp(key, "size") == 0) return (size = nbdkit_parse_size(value)) < 0 ? -1 : 0;
  if (strcmp(key, "delay-us") == 0) return nbdkit_parse_unsigned(key, value, &delay_us);
  nbdkit_error("no such parameter: %s", key);
  return -1;
}

static void* bench_open(int readonly) {
  (void)readonly;
  return NBDKIT_HANDLE_NOT_NEEDED;
}

static int64_t bench_get_size(void* handle) {
  (void)handle;
  return size;
}

static void take_time(void) {
  struct timespec delay = {delay_us / 1000000, (long)(delay_us % 1000000) * 1000};
  if (delay_us > 0) nanosleep(&delay, NULL);
}

static int bench_pread(void* handle, void* buffer, uint32_t count, uint64_t offset,
                       uint32_t flags) {
  (void)handle;
  (void)offset;
  (void)flags;
  take_time();
  memset(buffer, 'b', count);
  return 0;
}

static int bench_pwrite(void* handle, const void* buffer, uint32_t count, uint64_t offset,
                        uint32_t flags) {
  (void)handle;
  (void)buffer;
  (void)count;
  (void)offset;
  (void)flags;
  take_time();
  return 0;
}

static struct nbdkit_plugin plugin = {
    .name = "bench",
    .version = NBDKIT_VERSION_STRING,
    .config = bench_config,
    .open = bench_open,
    .get_size = bench_get_size,
    .pread = bench_pread,
    .pwrite = bench_pwrite,
};

NBDKIT_REGISTER_PLUGIN(plugin)
